"""The kinds of image collections people bring."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import assert_never

import numpy as np

from workers.contract.data import (
    IMAGE_SUFFIXES,
    BuiltinDataset,
    CifarDataset,
    DatasetToImport,
    FolderDataset,
    NpzDataset,
    ParquetDataset,
    WebDataset,
    ZipDataset,
)
from workers.contract.locations import is_path
from workers.data.buckets import bucket_files
from workers.data.cifar import cifar_collection
from workers.data.collection import ImageCollection, of_arrays
from workers.data.errors import DatasetError, ImageError
from workers.data.fetching import OnBytes
from workers.data.files import Files, folder_files, zip_files
from workers.data.labels import LABEL_FILE, Labels, file_labels, folder_labels
from workers.data.npz import npz_collection
from workers.data.pixels import decode
from workers.data.webdataset import webdataset_collection

_BUILTIN = {"fashion16": Path(__file__).parent / "builtin" / "fashion16_10k.npz"}


@contextmanager
def open_collection(dataset: DatasetToImport, *, on_bytes: OnBytes) -> Iterator[ImageCollection]:
    """Look at what is there and read the labels; no image is decoded yet.

    What lies in a folder of a bucket is listed, which may take minutes; meanwhile `on_bytes` hears of no bytes.

    Raises:
        DatasetError: if there is nothing at the path, nothing usable in it, or a label is wrong.
    """
    match dataset:
        case BuiltinDataset():
            yield _builtin(dataset.name)
        case FolderDataset():
            yield _collection(dataset, _folder_files(dataset.path, on_bytes))
        case ZipDataset():
            with zip_files(Path(dataset.path)) as files:
                yield _collection(dataset, files)
        case CifarDataset():
            yield cifar_collection(dataset)
        case NpzDataset():
            yield npz_collection(dataset)
        case ParquetDataset():
            from workers.data.parquet import parquet_collection  # half a second to import

            with parquet_collection(dataset) as collection:
                yield collection
        case WebDataset():
            with webdataset_collection(dataset) as collection:
                yield collection
        case _:
            assert_never(dataset)


def _builtin(name: str) -> ImageCollection:
    with np.load(_BUILTIN[name], allow_pickle=False) as arrays:
        pixels, values, classes = arrays["X"], arrays["Y"], arrays["classes"]
    labels = Labels.of(values, tuple(classes.tolist()))
    return of_arrays(pixels, labels, place=name, channels=1, resolution=None)


def _folder_files(path: str, on_bytes: OnBytes) -> Files:
    return folder_files(Path(path)) if is_path(path) else bucket_files(path, on_listed=lambda: on_bytes(0, None))


def _collection(dataset: FolderDataset | ZipDataset, files: Files) -> ImageCollection:
    visible = [name for name in files.names if not _is_hidden(name)]
    names = tuple(sorted(name for name in visible if name.lower().endswith(IMAGE_SUFFIXES)))
    num_ignored = len(set(visible) - {LABEL_FILE}) - len(names)
    place = dataset.path
    if not names:
        known = ", ".join(IMAGE_SUFFIXES)
        raise DatasetError(f"{place}: no images in it ({num_ignored} other files); known are {known}")
    if LABEL_FILE not in visible and (deep := next((name for name in visible if _is_label_file(name)), None)):
        mend = f"bring {deep.removesuffix(f'/{LABEL_FILE}')} as a set of its own, or remove that file"
        raise DatasetError(f"{place}: {deep} counts only at the root; {mend}")
    return ImageCollection(
        place=place,
        num_images=len(names),
        name=names.__getitem__,
        labels=_labels(files, names, place) if LABEL_FILE in visible else folder_labels(names, place=place),
        channels=dataset.channels,
        resolution=dataset.resolution,
        num_ignored=num_ignored,
        image=lambda index: decode(files.read(names[index])),
        num_readers=files.num_readers,
    )


def _labels(files: Files, names: tuple[str, ...], place: str) -> Labels | None:
    try:
        return file_labels(files.read(LABEL_FILE), names, place=place)
    except ImageError as error:
        raise DatasetError(f"{place}: {LABEL_FILE} {error}") from error


def _is_label_file(name: str) -> bool:
    return name.rpartition("/")[2] == LABEL_FILE


def _is_hidden(name: str) -> bool:
    return any(part.startswith(".") or part == "__MACOSX" for part in name.split("/"))
