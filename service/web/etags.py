"""Optimistic concurrency: `ETag` in answers, `If-Match` in changes.

A change without `If-Match` is made to whatever is there: fields of a PATCH are independent of each other, so the last
one wins field by field. Whoever must know that nothing changed in between sends the tag, and is refused with 412 if it
did.

A proxy that compresses answers makes a tag weak (`W/"5"`). It still names the version, and that is what a change is
meant for, not some bytes: so it counts here, although RFC 9110 would have it refused.
"""

import re
from typing import Annotated

from fastapi import Header

from service.errors import PreconditionFailed


async def documented_if_match(
    _: Annotated[
        str | None, Header(alias="If-Match", description="ETag of the state this change is meant for; absent = any")
    ] = None,
) -> None:
    """For the description of routes: use cases find the header in the `Requester` of the request."""


_TAG = re.compile(r'"[\x21\x23-\x7e]*"')


def etag(version: int) -> str:
    """The strong entity tag of a version."""
    return f'"{version}"'


def check_if_match(header: str | None, version: int) -> None:
    """Call it with the version that the change is then made to, and to no other.

    Raises:
        PreconditionFailed: if the header names other versions only.
    """
    if header is None or header.strip() == "*":
        return
    current = etag(version)
    if current not in _TAG.findall(header):
        raise PreconditionFailed(
            f"If-Match is {header[:100]}, and the present state is {current}", current_etag=current
        )
