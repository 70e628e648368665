"""Drawn images as one file, written part by part: a ZIP that can be imported again, or a NumPy archive."""

import json
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from mmap import ACCESS_READ, mmap
from tempfile import TemporaryFile
from typing import BinaryIO, Literal, cast

import numpy as np
from jaxtyping import UInt8
from torch import Tensor

from workers.pictures import png

Parts = Iterable[tuple[range, UInt8[Tensor, "batch channels height width"]]]  # seeds, and their images

_BEGINNING_OF_TIME = (1980, 1, 1, 0, 0, 0)  # the same images make the same file
_PER_FOLDER = 1000


@contextmanager
def archive_of(
    kind: Literal["zip", "npz"], parts: Parts, labels: Sequence[int] | None, *, num_images: int
) -> Iterator[memoryview]:
    """The bytes of a temporary file: images need not fit into memory.

    zip: PNG files named by their seeds, in the layout of EDM's tools; with labels in `dataset.json`. npz: `images`
    [images, height, width, channels] of uint8, and `labels` if there are any.
    """
    with TemporaryFile() as temporary:
        file = cast(BinaryIO, temporary)
        if kind == "zip":
            _write_zip(file, parts, labels)
        else:
            _write_npz(file, parts, labels, num_images)
        file.flush()
        with mmap(file.fileno(), 0, access=ACCESS_READ) as mapped, memoryview(mapped) as data:
            yield data


def _write_zip(file: BinaryIO, parts: Parts, labels: Sequence[int] | None) -> None:
    names = []
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for seeds, images in parts:
            for seed, pixels in zip(seeds, images, strict=True):
                names.append(f"{seed // _PER_FOLDER * _PER_FOLDER:06d}/{seed:06d}.png")
                archive.writestr(zipfile.ZipInfo(names[-1], _BEGINNING_OF_TIME), png(pixels.permute(1, 2, 0)))
        if labels:
            described = json.dumps({"labels": [*zip(names, labels, strict=True)]})
            archive.writestr(zipfile.ZipInfo("dataset.json", _BEGINNING_OF_TIME), described)


def _write_npz(file: BinaryIO, parts: Parts, labels: Sequence[int] | None, num_images: int) -> None:
    with zipfile.ZipFile(file, "w") as archive:
        with archive.open(_deflated("images.npy"), "w", force_zip64=True) as member:
            for number, (_, images) in enumerate(parts):
                pixels = np.ascontiguousarray(images.permute(0, 2, 3, 1).numpy())
                if number == 0:
                    described = {"descr": "|u1", "fortran_order": False, "shape": (num_images, *pixels.shape[1:])}
                    np.lib.format.write_array_header_1_0(member, described)
                member.write(pixels.tobytes())
        if labels:
            with archive.open(_deflated("labels.npy"), "w") as member:
                np.lib.format.write_array(member, np.asarray(labels, dtype=np.int64), allow_pickle=False)


def _deflated(name: str) -> zipfile.ZipInfo:
    member = zipfile.ZipInfo(name, _BEGINNING_OF_TIME)
    member.compress_type = zipfile.ZIP_DEFLATED
    return member
