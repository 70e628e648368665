"""The kinds of image collections people bring, each as a list of images that are decoded one by one."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, assert_never

import numpy as np
from PIL import Image

from workers.contract.data import IMAGE_SUFFIXES, BuiltinDataset, Dataset, FolderDataset, ZipDataset
from workers.data.errors import DatasetError, ImageError
from workers.data.files import Files, folder_files, zip_files
from workers.data.labels import LABEL_FILE, Labels, file_labels, folder_labels
from workers.data.pixels import decode

_BUILTIN = {"fashion16": Path(__file__).parent / "builtin" / "fashion16_10k.npz"}


@dataclass(frozen=True, slots=True)
class Source:
    """Images in a fixed order, sorted by name. `image(i)` decodes one, raises ImageError, and may run in any thread."""

    place: str
    names: tuple[str, ...]
    labels: Labels | None
    channels: Literal[1, 3]
    resolution: int | None
    num_ignored: int
    image: Callable[[int], Image.Image]


@contextmanager
def open_source(dataset: Dataset) -> Iterator[Source]:
    """Look at what is there and read the labels; no image is decoded yet.

    Raises:
        DatasetError: if there is nothing at the path, nothing usable in it, or a label is wrong.
    """
    match dataset:
        case BuiltinDataset():
            yield _builtin(dataset.name)
        case FolderDataset():
            yield _source(dataset, folder_files(Path(dataset.path)))
        case ZipDataset():
            with zip_files(Path(dataset.path)) as files:
                yield _source(dataset, files)
        case _:
            assert_never(dataset)


def _builtin(name: str) -> Source:
    with np.load(_BUILTIN[name], allow_pickle=False) as arrays:
        pixels, values, classes = arrays["X"], arrays["Y"], arrays["classes"]
    return Source(
        place=name,
        names=tuple(f"{number:06d}" for number in range(len(pixels))),
        labels=Labels(tuple(values.tolist()), tuple(classes.tolist())),
        channels=1,
        resolution=None,
        num_ignored=0,
        image=lambda index: Image.fromarray(pixels[index, :, :, 0]),
    )


def _source(dataset: FolderDataset | ZipDataset, files: Files) -> Source:
    visible = [name for name in files.names if not _is_hidden(name)]
    names = tuple(sorted(name for name in visible if name.lower().endswith(IMAGE_SUFFIXES)))
    num_ignored = len(set(visible) - {LABEL_FILE}) - len(names)
    place = dataset.path
    if not names:
        known = ", ".join(IMAGE_SUFFIXES)
        raise DatasetError(f"{place}: no images in it ({num_ignored} other files); known are {known}")
    return Source(
        place=place,
        names=names,
        labels=_labels(files, names, place) if LABEL_FILE in visible else folder_labels(names, place=place),
        channels=dataset.channels,
        resolution=dataset.resolution,
        num_ignored=num_ignored,
        image=lambda index: decode(files.read(names[index])),
    )


def _labels(files: Files, names: tuple[str, ...], place: str) -> Labels | None:
    try:
        return file_labels(files.read(LABEL_FILE), names, place=place)
    except ImageError as error:
        raise DatasetError(f"{place}: {LABEL_FILE} {error}") from error


def _is_hidden(name: str) -> bool:
    return any(part.startswith(".") or part == "__MACOSX" for part in name.split("/"))
