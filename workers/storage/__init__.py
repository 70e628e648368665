"""Where bytes are kept: S3, a local folder, or memory, behind one protocol."""

from pathlib import Path
from urllib.parse import unquote, urlsplit

from workers.storage.base import ObjectStore

__all__ = ["ObjectStore", "open_store"]


def open_store(url: str) -> ObjectStore:
    """Open `s3://bucket/prefix`, `file:///folder` or `memory://name`.

    S3 takes its endpoint and credentials from the standard AWS_* variables. A memory store lives as long as this
    process and is shared under its name.

    Raises:
        ValueError: for any other URL, saying which are known.
    """
    parts = urlsplit(url)
    match parts.scheme:
        case "s3" if parts.netloc:
            from workers.storage.s3 import S3Store  # boto3 takes half a second to import

            return S3Store.connect(parts.netloc, parts.path.strip("/"))
        case "file" if parts.path:
            from workers.storage.local import LocalStore

            return LocalStore(Path(unquote(parts.path)))
        case "memory":
            from workers.storage.memory import MemoryStore

            return MemoryStore.named(parts.netloc)
        case _:
            raise ValueError(f"cannot open a store at {url!r}: use s3://bucket/prefix, file:///folder or memory://name")
