"""Files in the object store on their way to a client: piece by piece, to be saved and not to be shown."""

import re
from collections.abc import AsyncIterator
from mimetypes import guess_type
from typing import Annotated, Any

from fastapi import Header
from fastapi.responses import StreamingResponse

from service.jobs.objects import JobObjects
from service.web.description import with_headers

_REST = re.compile(r"bytes=([0-9]{1,18})-", re.ASCII)
Range = Annotated[
    str | None,
    Header(
        alias="Range",
        description="`bytes=N-`: from byte N on, for a download that broke off; anything else makes no difference",
    ),
]
HANDED_OVER: dict[int | str, dict[str, Any]] = {
    200: {"content": {"*/*": {}}, "description": "Its bytes, of the type that its name says"}
    | with_headers("Accept-Ranges"),
    206: {"content": {"*/*": {}}, "description": "Those that `Range` asks for"}
    | with_headers("Accept-Ranges", "Content-Range"),
}


async def handed_over(objects: JobObjects, key: str, *, name: str, wanted: str | None) -> StreamingResponse:
    """The answer with the bytes of an object, as a file of that name; or with the rest of them that is `wanted`.

    Raises:
        FileNotFoundError: there is no such object.
    """
    size = await objects.size(key)
    start = _start(wanted, size)
    pieces = objects.pieces(key, start=start)
    first = await anext(pieces, b"")
    headers = {
        "Accept-Ranges": "bytes",
        "Content-Disposition": f'attachment; filename="{name}"',
        "Content-Length": str(size - start),
        "X-Content-Type-Options": "nosniff",
    }
    if start:
        headers["Content-Range"] = f"bytes {start}-{size - 1}/{size}"
    media_type = guess_type(name)[0] or "application/octet-stream"
    return StreamingResponse(_resumed(first, pieces), 206 if start else 200, headers, media_type)


def _start(wanted: str | None, size: int) -> int:
    """The byte to begin with; 0 for what is not understood, or lies behind the end, as RFC 9110 lets servers do."""
    rest = _REST.fullmatch(wanted or "")
    return start if rest and (start := int(rest[1])) < size else 0


async def _resumed(first: bytes, rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield first
    async for piece in rest:
        yield piece
