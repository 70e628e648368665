"""Files of the web that a job names beside its images."""

from mmap import ACCESS_READ, mmap
from pathlib import Path

import structlog

from workers.contract.document import SpecError
from workers.contract.files import files_of
from workers.contract.jobs import AnySpec
from workers.contract.keys import JobKeys
from workers.contract.locations import is_of_the_web
from workers.data import DatasetError
from workers.data.fetching import OnBytes, elsewhere, fetched
from workers.storage import ObjectStore

log = structlog.get_logger()


def bring_from_the_web(spec: AnySpec, keys: JobKeys, store: ObjectStore, *, on_bytes: OnBytes) -> None:
    """Put them into the job's folder, unless an attempt before this one has.

    So the web is asked once, however many workers there are, and all of them and later attempts read the same bytes.
    `on_bytes` hears of what comes; it may raise to end this.

    Raises:
        SpecError: one cannot be had; the message names the field.
    """
    for pointer, url in files_of(spec).items():
        if not is_of_the_web(url) or _is_there(store, keys.brought(url)):
            continue
        try:
            with fetched(elsewhere(url, is_known=False), None, on_bytes=on_bytes) as (file, name):
                _put(file, name, keys.brought(url), store)
        except DatasetError as error:
            raise SpecError(str(error), field=pointer.strip("/").replace("/", ".")) from None
        log.info("file.brought", name=name)


def _is_there(store: ObjectStore, key: str) -> bool:
    try:
        return store.size(key) >= 0
    except FileNotFoundError:
        return False


def _put(file: Path, name: str, key: str, store: ObjectStore) -> None:
    """Without a copy of it in memory."""
    if not file.stat().st_size:
        raise DatasetError(f"{name}: is empty; see the URL")
    with file.open("rb") as source, mmap(source.fileno(), 0, access=ACCESS_READ) as mapped, memoryview(mapped) as data:
        store.put(key, data)
