"""Tar files in the layout of WebDataset: the files of one example have a name in common, up to its first dot."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from workers.contract.data import IMAGE_SUFFIXES, WebDataset
from workers.data.errors import DatasetError, Faults, ImageError
from workers.data.files import Files, tar_files
from workers.data.labels import Labels, in_range, number_classes
from workers.data.pixels import decode
from workers.data.source import Source

_RELABEL = 'give each image a .cls file with a whole number from 0, or a .json file with {"label": number}'


@contextmanager
def webdataset_source(dataset: WebDataset) -> Iterator[Source]:
    """The images of all tar files, in the order of their names.

    Raises:
        DatasetError: there is none, or some images have labels and others have not.
    """
    place, path = dataset.path, Path(dataset.path)
    shards = sorted(path.glob("*.tar")) if path.is_dir() else [path]
    if not shards:
        raise DatasetError(f"{place}: no .tar file in it")
    with ExitStack() as stack:
        opened = {f"{shard.stem}/": stack.enter_context(tar_files(shard, compressed=False)) for shard in shards}
        files = _joined(opened)
        visible = [name for name in files.names if not name.rpartition("/")[2].startswith(".")]
        names = tuple(sorted(name for name in visible if name.lower().endswith(IMAGE_SUFFIXES)))
        labels, num_of_labels = _labels(files, names, place)
        if not names:
            raise DatasetError(f"{place}: no images in it; known are {', '.join(IMAGE_SUFFIXES)}")
        yield Source(
            place=place,
            names=names,
            labels=labels,
            channels=dataset.channels,
            resolution=dataset.resolution,
            num_ignored=len(visible) - len(names) - num_of_labels,
            image=lambda index: decode(files.read(names[index])),
        )


def _joined(shards: Mapping[str, Files]) -> Files:
    places = {prefix + name: (files, name) for prefix, files in shards.items() for name in files.names}

    def read(name: str) -> bytes:
        files, inner = places[name]
        return files.read(inner)

    return Files(list(places), read)


def _labels(files: Files, names: Sequence[str], place: str) -> tuple[Labels | None, int]:
    """The labels, and of how many files they are."""
    found = {_key(name): name for name in files.names if name.lower().endswith((".cls", ".json"))}
    if not found.keys() & {_key(name) for name in names}:
        return None, 0
    faults = Faults(place)
    values = []
    for name in names:
        try:
            values.append(_label(files, found.get(_key(name))))
        except ImageError as error:
            faults.add(name, error)
    if faults:
        faults.refuse()
    return Labels(tuple(values), number_classes(values)), len(found)


def _label(files: Files, name: str | None) -> int:
    if name is None:
        raise ImageError("has no label, others have one", mend=_RELABEL)
    text = files.read(name)
    try:
        value = json.loads(text)
    except ValueError:
        value = None
    label = value.get("label") if isinstance(value, dict) else value
    if type(label) is not int or not in_range(label):
        raise ImageError(f"has the label {text[:40]!r}", mend=_RELABEL)
    return label


def _key(name: str) -> str:
    folder, slash, last = name.rpartition("/")
    return folder + slash + last.partition(".")[0]
