"""Images of this machine on their way to a service that does not see them."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from zipfile import ZIP_STORED, ZipFile

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

from service.cli.errors import CommandFailed
from service.client import Client, Conflict, NotFound
from service.uploads.views import Upload
from workers.contract.data import IMAGE_SUFFIXES

_LABELS = "dataset.json"


def is_to_be_sent(client: Client, path: str, choice: bool | None) -> bool:
    """As was said; else if it is here, and the service and its workers do not see the files of this machine."""
    if choice is not None:
        return choice
    if "://" in path or not Path(path).expanduser().exists():
        return False
    try:
        sources = client.uploads.sources()
    except NotFound:  # a service of before there were uploads
        return False
    return sources.takes_uploads and not sources.shares_paths


def send(client: Client, path: str) -> Upload:
    """A file as it is, a folder of images as a ZIP; how far it is shows on standard error."""
    place = Path(path).expanduser()
    try:
        with _one_file(place) as file, _bar(place.name) as bar:
            return client.uploads.send(file, name=file.name, on_bytes=bar)
    except Conflict as error:
        raise CommandFailed(f"{path} cannot be sent: {error}") from None
    except OSError as error:
        raise CommandFailed(f"cannot read {path}: {error.strerror or error}") from None


@contextmanager
def _one_file(place: Path) -> Iterator[Path]:
    if not place.is_dir():
        yield place
        return
    with TemporaryDirectory(prefix="cdm-pack-") as name:
        packed = Path(name) / f"{place.resolve().name}.zip"
        with ZipFile(packed, "w", ZIP_STORED) as archive:  # images do not get any smaller
            for file in _images(place):
                archive.write(file, file.relative_to(place).as_posix())
        yield packed


def _images(root: Path) -> Iterator[Path]:
    """What an import of the folder would look at, links followed as it does."""
    seen: set[str] = set()
    for folder, folders, names in os.walk(root, followlinks=True):
        if os.path.realpath(folder) in seen:
            raise CommandFailed(f"{folder} is a link to a folder that is already part of it; remove the link")
        seen.add(os.path.realpath(folder))
        folders[:] = sorted(each for each in folders if not each.startswith("."))
        found = sorted(each for each in names if each.lower().endswith(IMAGE_SUFFIXES) and not each.startswith("."))
        yield from (Path(folder, each) for each in found)
        if Path(folder) == root and _LABELS in names:
            yield root / _LABELS


@contextmanager
def _bar(name: str) -> Iterator["_Bar"]:
    columns = (TextColumn("sending {task.description}"), BarColumn(24), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        yield _Bar(progress, name)


class _Bar:
    def __init__(self, progress: Progress, name: str) -> None:
        self._progress, self._task = progress, progress.add_task(name, total=None)

    def __call__(self, sent: int, total: int) -> None:
        self._progress.update(self._task, completed=sent, total=total)
