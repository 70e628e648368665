"""Where bytes are kept: S3, a local folder, or memory, behind one protocol."""

import os
import posixpath
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import SplitResult, unquote, urlsplit

from workers.storage.base import ObjectStore
from workers.storage.files import open_regular, read_regular, too_large
from workers.storage.job_files import JobFiles

__all__ = ["JobFiles", "ObjectStore", "key_in", "open_store", "read_beginning", "read_location"]


def open_store(url: str, *, public_endpoint: str | None = None, read_timeout_seconds: float = 60.0) -> ObjectStore:
    """Open `s3://bucket/prefix`, `file:///folder` or `memory://name`.

    S3 takes its endpoint and credentials from the standard AWS_* variables; links that it makes lead to
    `public_endpoint`, if one is given, and it is asked again when nothing has come for `read_timeout_seconds`. A memory
    store lives as long as this process and is shared under its name.

    Raises:
        ValueError: for any other URL, saying which are known.
    """
    parts = urlsplit(url)
    match parts.scheme:
        case "s3" if parts.netloc:
            from workers.storage.s3 import S3Store  # boto3 takes half a second to import

            return S3Store.connect(
                parts.netloc,
                parts.path.strip("/"),
                public_endpoint=public_endpoint,
                read_timeout_seconds=read_timeout_seconds,
            )
        case "file" if parts.path:
            from workers.storage.local import LocalStore

            return LocalStore(Path(unquote(parts.path)))
        case "memory":
            from workers.storage.memory import MemoryStore

            return MemoryStore.named(parts.netloc)
        case _:
            raise ValueError(f"cannot open a store at {url!r}: use s3://bucket/prefix, file:///folder or memory://name")


def read_location(location: str | Path, *, most_bytes: int, job_files: JobFiles | None = None) -> bytes:
    """A file at a path or URL such as `s3://bucket/prefix/file`; of a path, `~` is not expanded.

    `job_files`: where a job has its uploads, and files of the web; None: there are none.

    Raises:
        OSError: there is none, it is larger, no regular file, or cannot be read; the message names the location.
        ValueError: a URL of a kind that there is no store for.
    """
    with _said_of(location):
        if isinstance(place := _path_or_url(location), Path):
            return read_regular(place, most_bytes=most_bytes)
        data = _beginning(place, most_bytes + 1, job_files)
        if len(data) > most_bytes:
            raise too_large(most_bytes)
        return data


def read_beginning(location: str | Path, num_bytes: int, *, job_files: JobFiles | None = None) -> bytes:
    """At most so many bytes of what `read_location` reads; raises as that does, but for its size."""
    with _said_of(location):
        if isinstance(place := _path_or_url(location), Path):
            with open_regular(place) as file:
                return file.read(num_bytes)
        return _beginning(place, num_bytes, job_files)


def _path_or_url(location: str | Path) -> Path | str:
    parts = urlsplit(str(location))
    if isinstance(location, str) and parts.scheme and parts.scheme != "file":
        return location
    return Path(unquote(parts.path) if parts.scheme == "file" else location)


def _beginning(url: str, num_bytes: int, job_files: JobFiles | None) -> bytes:
    found = job_files.beginning(url, num_bytes) if job_files else None
    if found is not None:
        return found
    parts = urlsplit(url)
    store, key = open_store(f"{parts.scheme}://{parts.netloc}"), parts.path.lstrip("/")
    if parts.scheme != "s3":
        return store.part(key, 0, num_bytes)
    from workers.storage.s3 import in_bucket  # late, as in open_store

    with in_bucket(parts.netloc):  # one that the document names, so that it is what is wrong
        return store.part(key, 0, num_bytes)


@contextmanager
def _said_of(location: str | Path) -> Iterator[None]:
    """What is wrong names the location as the document does."""
    try:
        yield
    except FileNotFoundError:
        raise FileNotFoundError(f"there is no {location} where the workers run") from None
    except OSError as error:
        raise OSError(f"cannot read {location}: {error.strerror or error}") from None


def key_in(location: str, store_url: str) -> str | None:
    """What `read_location` would read of a store, as a key; None if the location leads elsewhere.

    A place has many spellings. Those that some servers take for it, and others do not, count as this place, too. Where
    the store is a folder its file system is asked, and may take its time.
    """
    if _server(location) != _server(store_url):
        return None
    root, path = _path(store_url).rstrip("/") + "/", _path(location)
    return path.removeprefix(root) if path.startswith(root) else None


def _server(location: str) -> str:
    """What keeps its bytes; empty for the file system."""
    parts = urlsplit(location)
    return "" if _is_file(parts) else f"{parts.scheme}://{parts.netloc}"


def _path(location: str) -> str:
    """Where it lies there, from the root."""
    parts = urlsplit(location)
    if not _is_file(parts):
        return posixpath.normpath(f"/{parts.path.lstrip('/')}")
    path = unquote(parts.path) if parts.scheme else location
    # Links are followed, since one may lead there; of slashes at the beginning two are kept, and mean one.
    try:
        whole = os.path.realpath(path)
    except ValueError:  # a NUL in it: no file has such a name
        whole = os.path.abspath(path)  # noqa: PTH100 (pathlib refuses it, too)
    return f"/{whole.lstrip('/')}"


def _is_file(parts: SplitResult) -> bool:
    return parts.scheme in {"", "file"}
