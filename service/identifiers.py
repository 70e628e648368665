"""Ids: a prefix that says what it is, and a ULID, so that they sort by the time they were made."""

import secrets
from datetime import datetime

_CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"


def new_ulid(*, at: datetime) -> str:
    """48 bits of milliseconds, 80 random bits, in Crockford's base 32."""
    number = int(at.timestamp() * 1000) << 80 | secrets.randbits(80)
    return "".join(_CROCKFORD[number >> shift & 31] for shift in range(125, -1, -5))


def new_id(prefix: str, *, at: datetime) -> str:
    """`job_01ARZ3NDEKTSV4RRFFQ69G5FAV`."""
    return f"{prefix}_{new_ulid(at=at)}"
