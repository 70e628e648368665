"""Ids: a prefix that says what it is, and a ULID, so that they sort by the time they were made."""

import hashlib
import secrets
from datetime import datetime

_CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_RANDOM_BITS = 80


def new_ulid(*, at: datetime) -> str:
    """48 bits of milliseconds, 80 random bits, in Crockford's base 32."""
    return _base32(int(at.timestamp() * 1000) << _RANDOM_BITS | secrets.randbits(_RANDOM_BITS))


def derived_id(prefix: str, *, at: datetime, of: str) -> str:
    """The same id for everyone who derives it from the same text and moment."""
    return f"{prefix}_{_base32(int(at.timestamp() * 1000) << _RANDOM_BITS | _digest(of))}"


def sibling_id(id_: str, *, of: str) -> str:
    """An id of the same moment as `id_`, and the same for everyone who derives it from `id_` and this text."""
    characters = _RANDOM_BITS // 5
    return id_[:-characters] + _base32(_digest(f"{id_} {of}"))[-characters:]


def first_id(prefix: str, *, at: datetime) -> str:
    """The lowest id of this moment; every id made then or later is at least that."""
    return f"{prefix}_{_base32(max(0, int(at.timestamp() * 1000)) << _RANDOM_BITS)}"


def range_of(prefix: str, *, beginning: str) -> tuple[str, str]:
    """The lowest and the highest id whose ULID begins so."""
    lowest, highest = (beginning.ljust(26, digit) for digit in (_CROCKFORD[0], _CROCKFORD[-1]))
    return f"{prefix}_{lowest}", f"{prefix}_{highest}"


def new_id(prefix: str, *, at: datetime) -> str:
    """`job_01ARZ3NDEKTSV4RRFFQ69G5FAV`."""
    return f"{prefix}_{new_ulid(at=at)}"


def _digest(text: str) -> int:
    """In place of the random bits."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[: _RANDOM_BITS // 8])


def _base32(number: int) -> str:
    return "".join(_CROCKFORD[number >> shift & 31] for shift in range(125, -1, -5))
