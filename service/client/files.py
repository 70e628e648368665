"""Files of this machine on their way to the service, and from there."""

import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

OnBytes = Callable[[int, int | None], None]  # bytes that have passed, and how many there are; None: nobody says


def unheard(_passed: int, _total: int | None) -> None: ...


@contextmanager
def replaced(path: Path) -> Iterator[BinaryIO]:
    """A file to write, which takes the place of `path` when the block has ended well; else nothing is left of it."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        with temporary.open("wb") as file:
            yield file
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
