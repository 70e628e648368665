"""Ten pictures and twelve of CIFAR's size, as test data sets of every format."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support.archives import cifar10_files
from tests.support.pictures import encoded, picture
from workers.contract.data import (
    CifarDataset,
    Dataset,
    FolderDataset,
    NpzDataset,
    ParquetDataset,
    WebDataset,
    ZipDataset,
)
from workers.data import DatasetError, import_dataset
from workers.storage.memory import MemoryStore

COUNT = 10
IMAGES = [picture(number) for number in range(COUNT)]
LABELS = [number % 3 for number in range(COUNT)]
CLASSES = ["ant", "bee", "cat"]
PNGS = {f"{number:03d}.png": encoded(image) for number, image in enumerate(IMAGES)}
PIXELS = np.stack([np.asarray(image) for image in IMAGES])
CIFAR = np.random.default_rng(0).integers(0, 256, (12, 3, 32, 32), dtype=np.uint8)
CIFAR_BATCHES = [(CIFAR[first : first + 2], [first % 10, first % 7]) for first in range(0, 12, 2)]
TEN = [b"airplane", b"automobile", b"bird", b"cat", b"deer", b"dog", b"frog", b"horse", b"ship", b"truck"]


def folder(path: Path | str, **options: Any) -> FolderDataset:
    return FolderDataset(kind="folder", path=str(path), **options)


def zipped(path: Path | str, **options: Any) -> ZipDataset:
    return ZipDataset(kind="zip", path=str(path), **options)


def cifar(path: Path | str, **options: Any) -> CifarDataset:
    return CifarDataset(kind="cifar", path=str(path), **options)


def numpy_archive(path: Path | str, **options: Any) -> NpzDataset:
    return NpzDataset(kind="npz", path=str(path), **options)


def parquet(path: Path | str, **options: Any) -> ParquetDataset:
    return ParquetDataset(kind="parquet", path=str(path), **options)


def webdataset(path: Path | str, **options: Any) -> WebDataset:
    return WebDataset(kind="webdataset", path=str(path), **options)


def refusal(dataset: Dataset) -> str:
    """Why a data set is refused; nothing may have reached the store."""
    store = MemoryStore()
    with pytest.raises(DatasetError) as caught:
        import_dataset(dataset, store)
    assert store.list("") == []
    return str(caught.value)


def of_cifar(**changes: bytes | None) -> dict[str, bytes]:
    """Its files, some of them replaced or left out."""
    files = cifar10_files(CIFAR_BATCHES, TEN)
    for name, data in changes.items():
        key = f"cifar-10-batches-py/{name}"
        files.pop(key)
        if data is not None:
            files[key] = data
    return files
