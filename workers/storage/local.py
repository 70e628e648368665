"""An object store in a folder: one machine without S3, or a file system that all workers share."""

import os
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


class LocalStore:
    """Objects as files; written beside their place and moved there, so that no half of one is ever seen."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def put(self, key: str, data: bytes | memoryview) -> None:
        path = self._path(key)
        with self._written(path, data) as temporary:
            os.replace(temporary, path)

    def put_if_absent(self, key: str, data: bytes) -> bool:
        path = self._path(key)
        with self._written(path, data) as temporary:
            try:
                os.link(temporary, path)  # unlike a rename, fails where something is
            except FileExistsError:
                return False
        return True

    def get(self, key: str) -> bytes:
        try:
            return self._path(key).read_bytes()
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            raise FileNotFoundError(key) from None

    def part(self, key: str, offset: int, size: int) -> bytes:
        try:
            with self._path(key).open("rb") as file:
                file.seek(offset)
                return file.read(size)
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            raise FileNotFoundError(key) from None

    def size(self, key: str) -> int:
        path = self._path(key)
        try:
            if path.is_file():
                return path.stat().st_size
        except (FileNotFoundError, NotADirectoryError):
            pass
        raise FileNotFoundError(key)

    def link(self, key: str, *, seconds: int) -> str | None:  # noqa: ARG002 - the protocol's
        return None

    def link_to_put(self, key: str, num_bytes: int, *, seconds: int) -> str | None:  # noqa: ARG002 - the protocol's
        return None

    def folders(self, prefix: str) -> list[str]:
        try:
            return sorted(path.name for path in self._path(prefix).iterdir() if path.is_dir())
        except (FileNotFoundError, NotADirectoryError):
            return []

    def list(self, prefix: str) -> list[str]:
        return sorted(self.walk(prefix))

    def walk(self, prefix: str) -> Iterator[str]:
        """Whoever removes a folder lists it first, so what killed writers have left in it goes here."""
        for path in self._path(prefix.rpartition("/")[0]).rglob("*"):
            if path.name.startswith(_TEMPORARY):
                remove_if_left(path)
            elif path.is_file() and (key := path.relative_to(self._root).as_posix()).startswith(prefix):
                yield key

    def delete(self, key: str) -> None:
        with suppress(FileNotFoundError, NotADirectoryError, IsADirectoryError):
            self._path(key).unlink()

    def _path(self, key: str) -> Path:
        if key.startswith("/") or ".." in key.split("/"):
            raise ValueError(f"object key {key!r} leaves the store")
        return self._root / key

    @contextmanager
    def _written(self, path: Path, data: bytes | memoryview) -> Iterator[str]:
        """A file with the data, in the folder of its later place; what is still there at the end is removed."""
        path.parent.mkdir(parents=True, exist_ok=True)
        name = f"{path.parent}/{_TEMPORARY}{uuid.uuid4().hex}"
        try:
            with Path(name).open("xb") as file:  # who may read it is for the umask to say: others may share the folder
                file.write(data)
            yield name
        finally:
            with suppress(FileNotFoundError):
                os.unlink(name)


_TEMPORARY = ".writing-"
_LEFT_AFTER_SECONDS = 86400.0  # clocks of machines that share a folder may differ by hours


def remove_if_left(path: Path) -> None:
    """Remove a half-written file of a writer that was killed: one that nobody has written to for a day."""
    with suppress(OSError):
        if time.time() - path.stat().st_mtime > _LEFT_AFTER_SECONDS:
            path.unlink()
