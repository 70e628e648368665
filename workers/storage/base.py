"""What the rest of the product asks of a place to keep bytes."""

from collections.abc import Iterator
from typing import Protocol


class ObjectStore(Protocol):
    """Named byte strings. A reader sees the old object or the new one, never a part of either.

    Keys are slash-separated paths without a leading slash; no key is a folder of another (`k` and `k/child`), since a
    file system cannot hold both. All backends pass `tests/integration/test_storage.py`.
    """

    def put(self, key: str, data: bytes | memoryview) -> None:
        """Write or replace an object. Large memory is not copied as a whole, so it must not change meanwhile."""

    def put_if_absent(self, key: str, data: bytes) -> bool:
        """Write an object unless there is one; of several writers one gets True."""

    def get(self, key: str) -> bytes:
        """Read an object; raises FileNotFoundError with the key if there is none."""

    def part(self, key: str, offset: int, size: int) -> bytes:
        """At most `size` bytes of an object from `offset` on; none behind its end. Raises as `size`."""

    def size(self, key: str) -> int:
        """How many bytes an object has; raises as `get`, and PermissionError if that is nobody's business here."""

    def link(self, key: str, *, seconds: int) -> str | None:
        """Where anybody can fetch an object without credentials for so long; None: nowhere."""

    def link_to_put(self, key: str, num_bytes: int, *, seconds: int) -> str | None:
        """Where anybody can PUT an object of exactly so many bytes without credentials for so long; None: nowhere."""

    def folders(self, prefix: str) -> list[str]:
        """The names of all folders directly under `prefix`, which is empty or ends with a slash, sorted.

        Costs as much as there are of them, however much lies in them. One that all was deleted from may still be there.
        """

    def list(self, prefix: str) -> list[str]:
        """All keys that start with `prefix`, sorted."""

    def walk(self, prefix: str) -> Iterator[str]:
        """The keys of `list` as they come, in any order: of a server a thousand at a time.

        Raises:
            FileNotFoundError: there is no such bucket.
            PermissionError: what lies there is nobody's business here.
        """

    def delete(self, key: str) -> None:
        """Remove an object; it need not exist."""
