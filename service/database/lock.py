"""One process per database: a lock the operating system gives back, however the process ends."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from service.errors import DatabaseInUse


@contextmanager
def exclusive(database: Path) -> Iterator[None]:
    """Hold `<database>.lock`.

    Raises:
        DatabaseInUse: if another process holds it, naming that process.
    """
    with database.with_name(database.name + ".lock").open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            holder = file.read().strip() or "unknown"
            raise DatabaseInUse(f"{database} is in use by process {holder}: end that one, or use another") from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield
