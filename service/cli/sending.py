"""Files of this machine on their way to a service that does not see them."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from zipfile import ZIP_STORED, ZipFile

from service.cli import documents
from service.cli.documents import Document
from service.cli.errors import CommandFailed
from service.client import Client, Conflict, NotFound
from service.client.documents import as_json
from service.jobs.views import EvaluateEach
from service.uploads.views import Upload
from workers.contract.data import IMAGE_SUFFIXES
from workers.contract.jobs import AnySpec

_LABELS = "dataset.json"


def spec_sent(client: Client, spec: AnySpec) -> AnySpec:
    """The document with uploads in place of what is here, and what the service does not see."""
    return documents.completed(document_sent(client, as_json(spec)), ())


def evaluations_sent(client: Client, evaluations: EvaluateEach) -> EvaluateEach:
    """The same of evaluations that follow a training."""
    return documents.evaluations(document_sent(client, as_json(evaluations)))


def document_sent(client: Client, document: Document) -> Document:
    """The same of a document, or a part of one; nothing is sent twice for it."""
    dataset, sent = document.get("dataset"), dict[str, str]()
    if isinstance(dataset, dict) and is_to_be_sent(client, path := dataset.get("path", ""), None):
        document = document | {"dataset": dataset_sent(client, dataset, path)}
    for place, key, field in documents.files_in(document):
        path = place[key]
        if path in sent or is_to_be_sent(client, path, None):
            if Path(path).is_dir():
                raise CommandFailed(f"{field}: {path} is a folder; name a file")
            sent[path] = place[key] = sent.get(path) or send(client, path).path
    return document


def dataset_sent(client: Client, dataset: Document, path: str) -> Document:
    """The data set that names what is sent of it, which is at `path`."""
    is_folder = Path(path).expanduser().is_dir()
    if is_folder and dataset["kind"] != "folder":
        raise CommandFailed(f"{path} is a folder of {dataset['kind']} files: send one of them, or a folder of images")
    return dataset | {"kind": "zip" if is_folder else dataset["kind"], "path": send(client, path).path}


def is_to_be_sent(client: Client, path: str, choice: bool | None) -> bool:
    """As was said; else if it is here, and the service and its workers do not see the files of this machine."""
    if choice is not None:
        return choice
    if not path or "://" in path or not documents.is_here(Path(path).expanduser()):
        return False
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
