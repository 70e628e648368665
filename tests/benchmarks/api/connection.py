"""HTTP for a load generator: as little work as possible, so that the service is what is measured."""

import asyncio
import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

_HEAD_BYTES = 64 * 1024


class Refused(Exception):
    """The answer was no success."""


class Connection:
    """One connection that is kept alive, for one request at a time."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def open(cls, url: str) -> "Connection":
        parts = urlsplit(url)
        return cls(*await asyncio.open_connection(parts.hostname, parts.port, limit=_HEAD_BYTES))

    async def send(self, request: bytes) -> bytes:
        """The body of the answer.

        Raises:
            Refused: its status is not 2xx.
        """
        self._writer.write(request)
        head = await self._reader.readuntil(b"\r\n\r\n")
        body = await self._reader.readexactly(_length(head))
        if not head.split(b" ", 2)[1].startswith(b"2"):
            raise Refused(head.decode() + body.decode())
        return body

    async def follow(self, request: bytes) -> asyncio.StreamReader:
        """Where an answer without an end arrives, chunked."""
        self._writer.write(request)
        head = await self._reader.readuntil(b"\r\n\r\n")
        if not head.split(b" ", 2)[1].startswith(b"2"):
            raise Refused(head.decode())
        return self._reader

    async def close(self) -> None:
        self._writer.close()
        await self._writer.wait_closed()


def request(method: str, path: str, *, key: str, body: Any = None, headers: Mapping[str, str] | None = None) -> bytes:
    """As it goes over the wire."""
    content = b"" if body is None else json.dumps(body).encode()
    lines = [f"{method} {path} HTTP/1.1", "Host: 127.0.0.1", f"Authorization: Bearer {key}"]
    lines += (
        [f"Content-Length: {len(content)}", "Content-Type: application/json"] if content or method == "POST" else []
    )
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    return "\r\n".join([*lines, "", ""]).encode() + content


def _length(head: bytes) -> int:
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            return int(line.partition(b":")[2])
    raise AssertionError(f"no Content-Length: {head!r}")
