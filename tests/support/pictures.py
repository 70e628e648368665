"""Small pictures, and the ways in which people bring them."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import numpy as np
from PIL import Image
from torch import Tensor

from workers.contract.data import Dataset, DatasetManifest
from workers.data import ImageSet, import_dataset
from workers.storage.memory import MemoryStore


def picture(number: int, *, size: tuple[int, int] = (8, 8), channels: int = 3) -> Image.Image:
    """Noise of its own for every number."""
    width, height = size
    pixels = np.random.default_rng(number).integers(0, 256, (height, width, channels), dtype=np.uint8)
    return Image.fromarray(pixels if channels > 1 else pixels[:, :, 0])


def encoded(image: Image.Image, kind: str = "png", **options: Any) -> bytes:
    buffer = BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def write_folder(root: Path, files: Mapping[str, bytes]) -> str:
    for name, data in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)
    return str(root)


def write_zip(path: Path, files: Mapping[str, bytes]) -> str:
    with ZipFile(path, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return str(path)


def of_a_later_version(archive: Path) -> Path:
    """The archive, changed so that it says of its first file that unpacking it takes a version to come."""
    content = bytearray(archive.read_bytes())
    content[content.index(b"PK\x01\x02") + 6] = 255
    archive.write_bytes(content)
    return archive


def label_file(labels: Any, **more: Any) -> dict[str, bytes]:
    return {"dataset.json": json.dumps({"labels": labels, **more}).encode()}


@dataclass(frozen=True, slots=True)
class Imported:
    """All of a data set after its way through the store."""

    manifest: DatasetManifest
    images: Tensor
    labels: Tensor | None


def imported(dataset: Dataset, cache: Path) -> Imported:
    store = MemoryStore()
    manifest = import_dataset(dataset, store)
    image_set = ImageSet.open(manifest.digest, store=store, cache=cache)
    everything = np.arange(len(image_set))
    return Imported(manifest, image_set.images(everything), image_set.labels(everything))
