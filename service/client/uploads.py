"""Files of this machine, sent straight to the object store in parts."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from hashlib import file_digest
from pathlib import Path
from typing import BinaryIO

import httpx2

from service.client.connection import NEVER_PROXIED, Connection
from service.client.errors import ClientError, RequestFailed, ServiceUnreachable, UploadFailed
from service.client.files import OnBytes, unheard
from service.client.pages import rows
from service.client.paths import path_to
from service.client.retries import Patience
from service.uploads.views import Sources, Upload, UploadPage, UploadPart, UploadPartList

_PIECE_BYTES = 1 << 20
_CONNECT_SECONDS, _SILENCE_SECONDS = 10.0, 300.0  # a server may take its time to write down what it was sent
_MOST_ROUNDS = 4  # in which nothing more arrived
_PAUSE_SECONDS = 2.0
_NOT_KEPT = "the object store took its parts and has not kept them; its address is the operator's"


class Uploads:
    """`client.uploads`: files on their way to jobs."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def sources(self) -> Sources:
        """Where the files of a job may be."""
        return self._connection.get(Sources, path_to("sources"))

    def send(self, file: str | Path, *, name: str | None = None, on_bytes: OnBytes = unheard) -> Upload:
        """Send a file, whole; a document then names it by the `path` of what comes back.

        It is read twice, first for its sha256. Parts that do not arrive are sent again. What is given up, or
        interrupted, is deleted where that can be done, so that it takes nobody's room.

        Raises:
            Conflict: clients cannot reach the object store of this service.
            UploadFailed: the object store does not take it.
        """
        path = Path(file)
        with path.open("rb") as source:
            sha256, num_bytes = file_digest(source, "sha256").hexdigest(), source.tell()
            named = "".join(each if each.isprintable() else "?" for each in name or path.name)[-255:]
            document = {"name": named, "num_bytes": num_bytes, "sha256": sha256}
            upload = self._connection.post(Upload, path_to("uploads"), document)
            with (
                self._deleted_if_given_up(upload),
                httpx2.Client(
                    mounts=NEVER_PROXIED, timeout=httpx2.Timeout(_SILENCE_SECONDS, connect=_CONNECT_SECONDS)
                ) as store,
            ):
                self._send_parts(upload, source, store, on_bytes)
        return self.retrieve(upload.id)

    def list(self, *, limit: int | None = None) -> Iterator[Upload]:
        """All that take room of the project, newest first; also what has expired and jobs still read."""
        return rows(self._connection, UploadPage, path_to("uploads"), limit=limit)

    def retrieve(self, upload_id: str) -> Upload:
        return self._connection.get(Upload, path_to("uploads", upload_id))

    def delete(self, upload_id: str) -> None:
        """Before it expires, or after it if jobs have kept it.

        Raises:
            Conflict: jobs may still read it.
        """
        self._connection.delete(path_to("uploads", upload_id))

    @contextmanager
    def _deleted_if_given_up(self, upload: Upload) -> Iterator[None]:
        try:
            yield
        except BaseException:  # Ctrl-C, too
            with suppress(ClientError):  # then it expires; why it was given up is what matters
                self.delete(upload.id)
            raise

    def _send_parts(self, upload: Upload, source: BinaryIO, store: httpx2.Client, on_bytes: OnBytes) -> None:
        rounds, before, failure = 0, None, None
        while parts := self._missing(upload):
            rounds = rounds + 1 if len(parts) == before else 0
            if rounds >= _MOST_ROUNDS:
                raise UploadFailed(f"{upload.name} did not arrive: {failure or _NOT_KEPT}")
            if rounds:
                self._connection.timing.sleep(_PAUSE_SECONDS)
            before, failure = len(parts), _put_all(parts, upload, source, store, on_bytes)

    def _missing(self, upload: Upload) -> Sequence[UploadPart]:
        """With fresh links: what takes a day may outlive the first ones, and a service that is away for a moment."""
        patience = Patience(self._connection.timing)
        while True:
            try:
                parts = self._connection.get(UploadPartList, path_to("uploads", upload.id, "parts")).data
            except (ServiceUnreachable, RequestFailed) as error:
                patience.wait(error)
            else:
                return [part for part in parts if part.url]


def _put_all(
    parts: Sequence[UploadPart], upload: Upload, source: BinaryIO, store: httpx2.Client, on_bytes: OnBytes
) -> str | None:
    """Until one fails; why it did."""
    for part in parts:
        start = part.number * upload.part_bytes
        failure = _put(part, _pieces(source, start, part.num_bytes, upload.num_bytes, on_bytes), store)
        if failure:
            return failure
    return None


def _put(part: UploadPart, content: Iterator[bytes], store: httpx2.Client) -> str | None:
    """What went wrong, if anything did. The link itself is a secret and stays out of it."""
    url = httpx2.URL(str(part.url))
    try:
        answer = store.put(url, content=content, headers={"Content-Length": str(part.num_bytes)})
    except httpx2.TransportError as error:
        return f"cannot reach the object store at {url.host} ({type(error).__name__}); its address is the operator's"
    return None if answer.is_success else f"the object store at {url.host} answered {answer.status_code}"


def _pieces(source: BinaryIO, start: int, size: int, total: int, on_bytes: OnBytes) -> Iterator[bytes]:
    source.seek(start)
    for offset in range(0, size, _PIECE_BYTES):
        yield source.read(min(_PIECE_BYTES, size - offset))
        on_bytes(start + min(offset + _PIECE_BYTES, size), total)
