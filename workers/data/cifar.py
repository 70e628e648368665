"""CIFAR-10 and CIFAR-100 as their authors publish them for Python: a tar file of pickles of Python 2."""

from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from workers.contract.data import CifarDataset
from workers.data.collection import ImageCollection, of_arrays
from workers.data.errors import DatasetError, ImageError
from workers.data.files import Files, tar_files
from workers.data.labels import MAX_CLASS_CHARACTERS, MAX_CLASSES, Labels
from workers.pickles import DataUnpickler, Record, RefusedError

_SHAPE = (3, 32, 32)
_MEND = "download it again from https://www.cs.toronto.edu/~kriz/cifar.html"


@dataclass(frozen=True, slots=True)
class _Layout:
    """Where an archive has what."""

    train: tuple[str, ...]
    test: tuple[str, ...]
    meta: str
    labels: bytes
    class_names: bytes


_CIFAR10 = _Layout(
    train=tuple(f"cifar-10-batches-py/data_batch_{number}" for number in range(1, 6)),
    test=("cifar-10-batches-py/test_batch",),
    meta="cifar-10-batches-py/batches.meta",
    labels=b"labels",
    class_names=b"label_names",
)
_CIFAR100 = _Layout(
    train=("cifar-100-python/train",),
    test=("cifar-100-python/test",),
    meta="cifar-100-python/meta",
    labels=b"fine_labels",
    class_names=b"fine_label_names",
)


def cifar_collection(dataset: CifarDataset) -> ImageCollection:
    """All of it in memory, 150 MB of pixels.

    Raises:
        DatasetError: it is neither of the two, or not whole.
    """
    place = dataset.path
    with tar_files(Path(place), compressed=True) as files:
        layout = next((each for each in (_CIFAR10, _CIFAR100) if each.meta in files.names), None)
        if layout is None:
            raise DatasetError(f"{place}: is not cifar-10-python.tar.gz or cifar-100-python.tar.gz; {_MEND}")
        batches = [_read(files, name, place) for name in (layout.train if dataset.split == "train" else layout.test)]
        classes = _class_names(_read(files, layout.meta, place).get(layout.class_names), place)
    pixels = np.concatenate([_pixels(batch.get(b"data"), place) for batch in batches])
    values = [value for batch in batches for value in _labels(batch.get(layout.labels), len(classes), place)]
    if not values or len(values) != len(pixels):
        raise DatasetError(f"{place}: has {len(pixels)} images and {len(values)} labels; {_MEND}")
    labels = Labels.of(values, classes)
    return of_arrays(pixels, labels, place=place, channels=dataset.channels, resolution=dataset.resolution)


def _read(files: Files, name: str, place: str) -> dict[bytes, object]:
    if name not in files.names:
        raise DatasetError(f"{place}: has no {name}; {_MEND}")
    try:
        content = _Reader(files.read(name)).load()
    except (ImageError, RefusedError) as error:
        raise DatasetError(f"{place}: {name} {error}; {_MEND}") from None
    except Exception as error:  # noqa: BLE001 - there is nothing that a damaged pickle may not raise
        raise DatasetError(f"{place}: {name} is damaged ({type(error).__name__}: {error}); {_MEND}") from None
    if not isinstance(content, dict):
        raise DatasetError(f"{place}: {name} holds no dictionary; {_MEND}")
    return content


def _pixels(array: object, place: str) -> UInt8[np.ndarray, "count 32 32 3"]:
    """Of an array whose rows are the red, the green and the blue pixels of an image."""
    match array:
        case Record(state=(_, (int(count), 3072), Record(class_name=b"u1" | "u1"), in_columns, bytes(data))) if (
            len(data) == count * 3072 and not in_columns
        ):
            return np.frombuffer(data, np.uint8).reshape(count, *_SHAPE).transpose(0, 2, 3, 1)
        case _:
            raise DatasetError(f"{place}: its images are not rows of 3072 bytes; {_MEND}")


def _class_names(names: object, place: str) -> tuple[str, ...]:
    texts = [_text(name) for name in names[: MAX_CLASSES + 1]] if isinstance(names, list) else []
    if not texts or not all(texts) or len({*texts}) != len(texts):
        raise DatasetError(f"{place}: its classes have no names, long ones, or some alike; {_MEND}")
    return tuple(texts)


def _text(name: object) -> str:
    """Of a string as either Python has written it; none of one that is too long."""
    if not isinstance(name, bytes | str) or len(name) > MAX_CLASS_CHARACTERS:
        return ""
    return name.decode(errors="replace") if isinstance(name, bytes) else name


def _labels(values: object, num_classes: int, place: str) -> list[int]:
    if isinstance(values, list) and all(type(value) is int and 0 <= value < num_classes for value in values):
        return values
    raise DatasetError(f"{place}: its labels are not numbers below {num_classes}; {_MEND}")


class _Reader(DataUnpickler):
    """Strings of Python 2 are bytes; `_codecs.encode` is how Python 3 writes bytes for Python 2."""

    def __init__(self, data: bytes) -> None:
        super().__init__(BytesIO(data), encoding="bytes")
        self.meanings["_codecs.encode"] = self._encoded
        self._left = len(data)

    def _encoded(self, text: str, *_: object) -> bytes:
        """At most as much as the file is long: it can name a long text again and again in a few bytes."""
        if (left := self._left - len(text)) < 0:
            raise RefusedError("repeats its texts; it was refused")
        self._left = left
        return text.encode("latin1")
