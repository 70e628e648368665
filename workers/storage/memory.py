"""An object store in this process: for tests of users and of this project, and for trying things out."""

import threading
from collections.abc import Iterator
from typing import ClassVar


class MemoryStore:
    """Objects in a dictionary, safe between threads, gone with the process."""

    _named: ClassVar[dict[str, "MemoryStore"]] = {}

    def __init__(self) -> None:
        self._objects: dict[str, bytes] = {}
        self._lock = threading.Lock()

    @classmethod
    def named(cls, name: str) -> "MemoryStore":
        return cls._named.setdefault(name, cls())

    def put(self, key: str, data: bytes | memoryview) -> None:
        with self._lock:
            self._objects[key] = bytes(data)

    def put_if_absent(self, key: str, data: bytes) -> bool:
        with self._lock:
            if key in self._objects:
                return False
            self._objects[key] = bytes(data)
            return True

    def get(self, key: str) -> bytes:
        with self._lock:
            try:
                return self._objects[key]
            except KeyError:
                raise FileNotFoundError(key) from None

    def part(self, key: str, offset: int, size: int) -> bytes:
        return self.get(key)[offset : offset + size]

    def size(self, key: str) -> int:
        return len(self.get(key))

    def link(self, key: str, *, seconds: int) -> str | None:  # noqa: ARG002 - the protocol's
        return None

    def link_to_put(self, key: str, num_bytes: int, *, seconds: int) -> str | None:  # noqa: ARG002 - the protocol's
        return None

    def folders(self, prefix: str) -> list[str]:
        below = (key.removeprefix(prefix) for key in self.list(prefix))
        return sorted({rest.split("/")[0] for rest in below if "/" in rest})

    def list(self, prefix: str) -> list[str]:
        with self._lock:
            return sorted(key for key in self._objects if key.startswith(prefix))

    def walk(self, prefix: str) -> Iterator[str]:
        return iter(self.list(prefix))

    def delete(self, key: str) -> None:
        with self._lock:
            self._objects.pop(key, None)
