"""Folders of buckets: their objects are named files, as those of a folder of this machine are."""

from collections.abc import Callable, Iterator

import structlog

from workers.data.errors import DatasetError, ImageError
from workers.data.files import MAX_FILE_BYTES, Files, check_size, of_one_split
from workers.data.remotes import Remote, not_readable, object_of
from workers.storage import ObjectStore, open_store

log = structlog.get_logger()

OnListed = Callable[[], object]  # hears that it goes on, every thousand names

_MAX_OBJECTS = 10_000_000  # names are kept, some hundred bytes each
_PAGE = 1000  # names, as many as a server tells at a time
_SAID_EVERY = 100_000
_READERS = 8  # each waits for the server most of the time
_MAX_NAME_BYTES = 255  # of a file


def bucket_files(folder: str, *, on_listed: OnListed) -> Files:
    """All objects that lie under it, however deep. Each is read when it is asked for, and nothing of it is kept.

    Keys with . or .. in them, which some servers would take for other places, are hidden files to those who ask.

    Raises:
        DatasetError: as `_names`; from `read`, too, where the workers may not read an object.
    """
    store = open_store(folder)

    def read(name: str) -> bytes:
        try:
            data = store.part(name, 0, MAX_FILE_BYTES + 1)
        except FileNotFoundError:
            raise ImageError("is not there any more", mend="leave the folder as it is while it is imported") from None
        except PermissionError:  # one of them is as all are: that a million are refused shows nothing more
            raise not_readable(folder + name) from None
        check_size(len(data))
        return data

    return Files([*_names(store, folder, on_listed)], read, num_readers=_READERS)


def bucket_shards(folder: str, suffix: str, *, split: str | None, on_listed: OnListed) -> list[tuple[str, Remote]]:
    """The objects that lie directly in it and whose names end so, by these, in their order; of them those of one split.

    Raises:
        DatasetError: as `_names` and `of_one_split`; there is none, or one that cannot be read or be a file.
    """
    store = open_store(folder)
    names = sorted(name for name in _names(store, folder, on_listed) if name.endswith(suffix) and "/" not in name)
    if not names:
        raise DatasetError(f"{folder}: no {suffix} file directly in it")
    shards = []
    for name in of_one_split(names, split, folder):
        if len(name.encode()) > _MAX_NAME_BYTES:
            raise DatasetError(f"{folder}{name}: no file has so long a name; give it another one")
        shards.append((name, object_of(store, name, place=folder + name)))
        on_listed()
    return shards


def _names(store: ObjectStore, folder: str, on_listed: OnListed) -> Iterator[str]:
    """Of all objects under a folder, from there on; those that only stand for a folder are left out.

    Raises:
        DatasetError: there is none, they are too many, or the workers may not list them.
    """
    count = 0
    for count, name in enumerate(_walked(store, folder), 1):
        if count % _PAGE == 1:
            on_listed()
        if count % _SAID_EVERY == 0:
            log.info("dataset.listing", place=folder, objects=count)
        if count > _MAX_OBJECTS:
            mend = "name a folder with fewer, or pack them into tar files (webdataset)"
            raise DatasetError(f"{folder}: holds more than {_MAX_OBJECTS:,} objects; {mend}")
        if name and not name.endswith("/"):
            yield name
    if not count:
        raise DatasetError(f"{folder}: there is nothing in it; compare it with the keys of the bucket")


def _walked(store: ObjectStore, folder: str) -> Iterator[str]:
    try:
        yield from store.walk("")
    except FileNotFoundError:
        raise DatasetError(f"{folder}: there is no such bucket") from None
    except PermissionError:
        mend = "give them the right to (s3:ListBucket), or upload its images"
        raise DatasetError(f"{folder}: the workers may not list it; {mend}") from None
