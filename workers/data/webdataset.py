"""Tar files in the layout of WebDataset: the files of one example have a name in common, up to its first dot."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from workers.contract.data import IMAGE_SUFFIXES, WebDataset
from workers.data.collection import ImageCollection
from workers.data.errors import DatasetError, Faults, ImageError
from workers.data.files import Files, files_at, tar_files
from workers.data.labels import Labels, in_range, number_classes
from workers.data.pixels import decode

_LABELS = (".cls", ".json")
_RELABEL = 'give each image a .cls file with a whole number from 0, or a .json file with {"label": number}'


@contextmanager
def webdataset_collection(dataset: WebDataset) -> Iterator[ImageCollection]:
    """The images of all tar files, in the order of their names.

    Raises:
        DatasetError: there is none, or some images have labels and others have not.
    """
    place, shards = dataset.path, files_at(Path(dataset.path), dataset.suffix, split=dataset.split)
    with ExitStack() as stack:
        opened = {f"{shard.stem}/": stack.enter_context(tar_files(shard, compressed=False)) for shard in shards}
        files = _joined(opened)
        visible = [name for name in files.names if not name.rpartition("/")[2].startswith(".")]
        names = tuple(sorted(name for name in visible if name.lower().endswith(IMAGE_SUFFIXES)))
        labels, num_of_labels = _labels(files, names, place)
        if not names:
            raise DatasetError(f"{place}: no images in it; known are {', '.join(IMAGE_SUFFIXES)}")
        yield ImageCollection(
            place=place,
            num_images=len(names),
            name=names.__getitem__,
            labels=labels,
            channels=dataset.channels,
            resolution=dataset.resolution,
            num_ignored=len(visible) - len(names) - num_of_labels,
            image=lambda index: decode(files.read(names[index])),
        )


def _joined(shards: Mapping[str, Files]) -> Files:
    def read(name: str) -> bytes:
        prefix, slash, inner = name.partition("/")
        return shards[prefix + slash].read(inner)

    return Files([prefix + name for prefix, files in shards.items() for name in files.names], read)


def _labels(files: Files, names: Sequence[str], place: str) -> tuple[Labels | None, int]:
    """The labels, and of how many files they are; a `.cls` counts more than a `.json`, which may be of other things."""
    by_suffix = [{_key(name): name for name in files.names if name.lower().endswith(suffix)} for suffix in _LABELS]
    faults = Faults(place)
    values: dict[str, int | None] = {}
    seen: dict[str, str] = {}
    for name in names:
        key = _key(name)
        if seen.setdefault(key, name) != name:
            faults.add(name, ImageError(f"belongs to the same example as {seen[key]!r}", mend="keep one image of each"))
        try:
            values[name] = next((_label(files, found[key]) for found in by_suffix if key in found), None)
        except ImageError as error:
            faults.add(name, error)
    if any(value is not None for value in values.values()):
        for name in [name for name, value in values.items() if value is None]:
            faults.add(name, ImageError("has no label, others have one", mend=_RELABEL))
    if faults:
        faults.refuse()
    labels = [value for value in values.values() if value is not None]
    if not labels:
        return None, 0
    return Labels.of(labels, number_classes(labels)), sum(len(found) for found in by_suffix)


def _label(files: Files, name: str) -> int | None:
    """None if a `.json` says nothing of it."""
    text = files.read(name)
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        value = text[:40]
    if isinstance(value, dict):
        if "label" not in value:
            return None
        value = value["label"]
    if type(value) is not int or not in_range(value):
        raise ImageError(f"has the label {value!r:.60}", mend=_RELABEL)
    return value


def _key(name: str) -> str:
    folder, slash, last = name.rpartition("/")
    return folder + slash + last.partition(".")[0]
