"""Files of the service on their way to this machine."""

from collections.abc import Mapping
from hashlib import sha256
from typing import Any, BinaryIO

import httpx2

from service.client.connection import Connection
from service.client.errors import RequestFailed, ServiceUnreachable
from service.client.files import OnBytes
from service.client.retries import Patience


def download(connection: Connection, path: str, file: BinaryIO, *, on_bytes: OnBytes, **params: Any) -> str:
    """Write what lies there into an empty file, and return its sha256.

    What breaks off goes on behind what has come, as soon as the service is there again.

    Raises:
        ServiceUnreachable, RequestFailed: nothing more comes for a minute, or longer if the service asks for a pause
            (`Patience`).
    """
    incoming, patience = _Incoming(file, on_bytes), Patience(connection.timing)
    while True:
        before = file.tell()
        try:
            connection.fetch(path, incoming.receive, headers=incoming.headers, **params)
        except (ServiceUnreachable, RequestFailed) as error:
            if not incoming.can_go_on:
                raise
            if file.tell() > before:
                patience.progressed()
            else:
                patience.wait(error)
        else:
            return incoming.digest.hexdigest()


class _Incoming:
    """What has come so far."""

    def __init__(self, file: BinaryIO, on_bytes: OnBytes) -> None:
        self._file, self._on_bytes = file, on_bytes
        self.digest = sha256()
        self.can_go_on = False

    def headers(self) -> Mapping[str, str]:
        """What is asked for: all, or the rest."""
        place = self._file.tell()
        return {"Range": f"bytes={place}-"} if self.can_go_on and place else {}

    def receive(self, response: httpx2.Response) -> None:
        if not response.headers.get("content-range", "").startswith(f"bytes {self._file.tell()}-"):
            self._begin_anew()
        self.can_go_on = response.headers.get("accept-ranges") == "bytes"
        length = response.headers.get("content-length")
        total = self._file.tell() + int(length) if length else None
        for piece in response.iter_bytes():  # as they come: what would be gathered is lost where it breaks off
            self._file.write(piece)
            self.digest.update(piece)
            self._on_bytes(self._file.tell(), total)

    def _begin_anew(self) -> None:
        self._file.seek(0)
        self._file.truncate()
        self.digest = sha256()
