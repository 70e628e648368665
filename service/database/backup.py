"""A copy of SQLite's file, taken beside the service that runs on it, and put back. Of Postgres, `pg_dump` makes one."""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from urllib.parse import quote

from sqlalchemy.engine import make_url

from service.database.lock import exclusive
from service.errors import BackupRefused


def save(url: str, copy: Path) -> None:
    """Write the database, as it is at this moment, into a new file for its owner only. It holds secrets of webhooks.

    Raises:
        BackupRefused: there is no database, it cannot be read, or something has the name of the copy.
    """
    source = _file_of(url)
    if not source.is_file():
        raise BackupRefused(f"there is no database {source}")
    if copy.exists():
        raise BackupRefused(f"{copy} is there already: name another file")
    _copied(source, copy)


def put_back(url: str, copy: Path) -> None:
    """Make a copy the database, where there is none.

    Raises:
        BackupRefused: there is one, or the copy is none or is damaged.
        DatabaseInUse: a service runs on it.
    """
    target = _file_of(url)
    if not copy.is_file():
        raise BackupRefused(f"there is no file {copy}")
    target.parent.mkdir(parents=True, exist_ok=True)
    with exclusive(target):
        if there := [path for path in _with_logs(target) if path.exists()]:  # a log of another database would spoil it
            raise BackupRefused(f"{there[0]} is there: move {target.name}* away first")
        _check(copy)
        _copied(copy, target)


def _file_of(url: str) -> Path:
    place = make_url(url)
    if place.get_backend_name() != "sqlite":
        raise BackupRefused(f"this is done to SQLite; of {place.get_backend_name()}, use pg_dump and pg_restore")
    return Path(place.database or "")


def _with_logs(file: Path) -> list[Path]:
    return [file.with_name(file.name + end) for end in ("", "-wal", "-shm")]


def _copied(source: Path, target: Path) -> None:
    """All pages in one transaction, written beside the target and moved there; no half of it is ever seen."""
    temporary = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        os.close(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        with _opened(source) as read, closing(sqlite3.connect(temporary)) as written:
            read.backup(written)
            written.execute("PRAGMA journal_mode = DELETE")  # to be read where no log can be made beside it, too
        os.replace(temporary, target)
    except (OSError, sqlite3.Error) as error:
        raise BackupRefused(f"cannot copy {source} to {target}: {error}") from error
    finally:
        for file in _with_logs(temporary):
            with suppress(FileNotFoundError):
                file.unlink()


def _check(copy: Path) -> None:
    try:
        with _opened(copy) as connection:
            damage = connection.execute("PRAGMA integrity_check(1)").fetchone()[0]
            known = connection.execute("SELECT count(*) FROM sqlite_master WHERE name IN ('jobs', 'api_keys')")
            is_ours = known.fetchone()[0] == 2
    except sqlite3.Error as error:
        raise BackupRefused(f"{copy} is no backup that can be read: {error}") from error
    if damage != "ok" or not is_ours:
        raise BackupRefused(f"{copy} is damaged: {damage}" if is_ours else f"{copy} is no backup of a service")


@contextmanager
def _opened(file: Path) -> Iterator[sqlite3.Connection]:
    """To be read only."""
    with closing(sqlite3.connect(f"file:{quote(str(file.absolute()))}?mode=ro", uri=True)) as connection:
        yield connection
