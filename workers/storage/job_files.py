"""What a job's store holds of the files that its document names by URL."""

from dataclasses import dataclass
from hashlib import sha256

from workers.contract.keys import JobKeys
from workers.contract.locations import is_of_the_web, uploaded_id
from workers.storage.base import ObjectStore
from workers.storage.uploads import upload_pieces, upload_record


class StoreRefusedError(Exception):
    """The job's own store does not open one of its objects: nothing in the document mends that."""

    def __init__(self, key: str) -> None:
        super().__init__(key)
        self.key = key


@dataclass(frozen=True, slots=True)
class JobFiles:
    """Uploads of its project, and what was brought from the web before its workers started."""

    store: ObjectStore
    keys: JobKeys

    def beginning(self, location: str, num_bytes: int) -> bytes | None:
        """At most so many bytes; None: it is neither an upload nor of the web.

        Raises:
            OSError: it is gone, or an upload that was read whole is not what was sent.
            StoreRefusedError: the store does not open it.
        """
        try:
            if upload_id := uploaded_id(location):
                return self._uploaded(upload_id, num_bytes)
            return self.store.part(self.keys.brought(location), 0, num_bytes) if is_of_the_web(location) else None
        except PermissionError as error:
            raise StoreRefusedError(error.filename) from None

    def _uploaded(self, upload_id: str, num_bytes: int) -> bytes:
        try:
            return self._sent(upload_id, num_bytes)
        except FileNotFoundError as error:  # a plain one: what there is to be said of it is said
            raise OSError(str(error)) from None

    def _sent(self, upload_id: str, num_bytes: int) -> bytes:
        record = upload_record(upload_id, self.store)
        data = b"".join(upload_pieces(upload_id, record, self.store, most_bytes=num_bytes))
        is_whole = record.num_bytes <= num_bytes
        if is_whole and record.sha256 and (found := sha256(data).hexdigest()) != record.sha256:
            raise OSError(f"its sha256 is {found}, not {record.sha256}; upload the file again")
        return data
