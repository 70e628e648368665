"""Files of this machine on their way to a service that does not see them."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeVar
from zipfile import ZIP_STORED, ZipFile

from service.cli import documents
from service.cli.documents import Document
from service.cli.errors import CommandFailed
from service.client import Client, Conflict, NotFound
from service.client.documents import as_json
from service.client.jobs import ForkOptions, JobOptions
from service.jobs.views import EvaluateEach
from service.uploads.views import Upload
from workers.contract.data import IMAGE_SUFFIXES
from workers.contract.locations import upload_location

Options = TypeVar("Options", ForkOptions, JobOptions)
_LABELS = "dataset.json"
_TO_COME = upload_location(f"upl_{'0' * 26}")  # in place of an upload that is still to be made


def request_sent(client: Client, document: Document, options: Options) -> tuple[Document, Options]:
    """A document, or parts of one, and what is said beside it, with uploads for what the service does not see of here.

    Raises:
        CommandFailed: something cannot be sent, or be part of a document then; nothing was sent.
    """
    evaluations = options.get("evaluations")
    if not isinstance(evaluations, EvaluateEach):
        [document] = documents_sent(client, document)
        return document, options
    document, following = documents_sent(client, document, as_json(evaluations))
    return document, {**options, "evaluations": documents.evaluations(following)}


def documents_sent(client: Client, *wanted: Document, upload: bool | None = None) -> tuple[Document, ...]:
    """The same of documents, or parts of some: all are looked through before anything is sent, and nothing is twice.

    `upload`: whether their images are to be sent, if that was said.
    """
    takes_files = cache(partial(_takes_files, client))  # asked once, and only if something is here
    changed = tuple(_with_images_as_sent(each, upload, takes_files) for each in wanted)
    to_send = [place for each in changed for place in _places(each, upload, takes_files)]
    sent: dict[str, str] = {}
    for place, key in to_send:
        path = place[key]
        sent[path] = place[key] = sent.get(path) or send(client, path).path
    return changed


def _with_images_as_sent(document: Document, upload: bool | None, takes_files: Callable[[], bool]) -> Document:
    """With the kind that its data set has once it is sent; its path is still that of here."""
    dataset = document.get("dataset")
    if not isinstance(dataset, dict) or not _is_to_be_sent(path := dataset.get("path", ""), upload, takes_files):
        return document
    is_folder = Path(path).expanduser().is_dir()
    if is_folder and dataset["kind"] != "folder":
        raise CommandFailed(f"{path} is a folder of {dataset['kind']} files: send one of them, or a folder of images")
    dataset = dataset | {"kind": "zip" if is_folder else dataset["kind"]}
    documents.completed({"kind": "import", "dataset": dataset | {"path": _TO_COME}}, ())
    return document | {"dataset": dataset}


def _places(document: Document, upload: bool | None, takes_files: Callable[[], bool]) -> Iterator[tuple[Document, str]]:
    """Where a document names what is to be sent: the mapping, and the key in it."""
    dataset = document.get("dataset")
    if isinstance(dataset, dict) and _is_to_be_sent(dataset.get("path", ""), upload, takes_files):
        yield dataset, "path"
    for place, key, field in documents.files_in(document):
        if _is_to_be_sent(path := place[key], None, takes_files):
            if Path(path).is_dir():
                raise CommandFailed(f"{field}: {path} is a folder; name a file")
            yield place, key


def _is_to_be_sent(path: str, choice: bool | None, takes_files: Callable[[], bool]) -> bool:
    """As was said; else if it is here, and the service takes files."""
    if choice is not None:
        return choice
    return bool(path) and "://" not in path and documents.is_here(Path(path).expanduser()) and takes_files()


def _takes_files(client: Client) -> bool:
    """Whether the service and its workers do not see the files of this machine, and can be sent some."""
    try:
        sources = client.uploads.sources()
    except NotFound:  # a service of before there were uploads
        return False
    return sources.takes_uploads and not sources.shares_paths


def send(client: Client, path: str) -> Upload:
    """A file as it is, a folder of images as a ZIP; how far it is shows on standard error."""
    from service.cli.bar import transfer_bar  # rich takes a moment to import

    place = Path(path).expanduser()
    try:
        with _one_file(place) as file, transfer_bar(f"sending {place.name}") as show:
            return client.uploads.send(file, on_bytes=show)
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
