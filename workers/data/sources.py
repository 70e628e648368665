"""The kinds of image collections people bring, each as a list of images that are decoded one by one."""

import os
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, assert_never

import numpy as np
from PIL import Image

from workers.contract.data import BuiltinDataset, Dataset, FolderDataset, ZipDataset
from workers.data.errors import DatasetError, ImageError
from workers.data.labels import LABEL_FILE, Labels, file_labels, folder_labels
from workers.data.pixels import decode

_BUILTIN = {"fashion16": Path(__file__).parent / "builtin" / "fashion16_10k.npz"}
_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm")
_MAX_FILE_BYTES = 256 << 20  # no image of a sane number of pixels is larger; a ZIP can hide one that is


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
            yield _source(dataset, _folder(Path(dataset.path)))
        case ZipDataset():
            with _archive(dataset.path) as archive:
                yield _source(dataset, _members(archive))
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


@dataclass(frozen=True, slots=True)
class _Files:
    """What a folder and a ZIP have in common: names with slashes, and the bytes behind them."""

    names: list[str]
    read: Callable[[str], bytes]


def _source(dataset: FolderDataset | ZipDataset, files: _Files) -> Source:
    visible = [name for name in files.names if not _is_hidden(name)]
    names = tuple(sorted(name for name in visible if name.lower().endswith(_SUFFIXES)))
    num_ignored = len(set(visible) - {LABEL_FILE}) - len(names)
    place = dataset.path
    if not names:
        raise DatasetError(f"{place}: no images in it ({num_ignored} other files); known are {', '.join(_SUFFIXES)}")
    if LABEL_FILE in visible:
        labels = file_labels(files.read(LABEL_FILE), names, place=place)
    else:
        labels = folder_labels(names, place=place)
    return Source(
        place=place,
        names=names,
        labels=labels,
        channels=dataset.channels,
        resolution=dataset.resolution,
        num_ignored=num_ignored,
        image=lambda index: decode(files.read(names[index])),
    )


def _is_hidden(name: str) -> bool:
    return any(part.startswith(".") or part == "__MACOSX" for part in name.split("/"))


def _folder(root: Path) -> _Files:
    if root.is_file():
        raise DatasetError(f'{root}: is a file, not a folder; for a ZIP use "kind": "zip"')
    if not root.exists():
        raise DatasetError(f"{root}: no such folder where the workers run")

    def refuse(error: OSError) -> None:
        raise DatasetError(f"{error.filename}: {error.strerror}")

    def read(name: str) -> bytes:
        try:
            _check_size((root / name).stat().st_size)
            return (root / name).read_bytes()
        except OSError as error:
            raise ImageError(f"cannot be read: {error.strerror}") from error

    walk = os.walk(root, onerror=refuse)
    return _Files(
        [(Path(place) / name).relative_to(root).as_posix() for place, _, names in walk for name in names], read
    )


@contextmanager
def _archive(path: str) -> Iterator[zipfile.ZipFile]:
    if Path(path).is_dir():
        raise DatasetError(f'{path}: is a folder, not a ZIP; use "kind": "folder"')
    try:
        archive = zipfile.ZipFile(path)
    except FileNotFoundError:
        raise DatasetError(f"{path}: no such file where the workers run") from None
    except (zipfile.BadZipFile, OSError) as error:
        raise DatasetError(f"{path}: cannot be read as a ZIP: {error}") from error
    with archive:
        yield archive


def _members(archive: zipfile.ZipFile) -> _Files:
    members = {member.filename: member for member in archive.infolist() if not member.is_dir()}

    def read(name: str) -> bytes:
        try:
            _check_size(members[name].file_size)
            return archive.read(members[name])  # to the end, which is where the checksum is compared
        except (zipfile.BadZipFile, OSError, EOFError, RuntimeError, zlib.error) as error:
            raise ImageError(f"cannot be unpacked: {error}") from error

    return _Files(list(members), read)


def _check_size(num_bytes: int) -> None:
    if num_bytes > _MAX_FILE_BYTES:
        raise ImageError(f"is larger than {_MAX_FILE_BYTES >> 20} MiB", mend="make the images smaller")
