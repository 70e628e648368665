"""Images in a NumPy archive."""

from collections.abc import Mapping
from pathlib import Path
from zipfile import ZipFile

import numpy as np

from workers.contract.data import NpzDataset
from workers.data.collection import ImageCollection, of_arrays
from workers.data.errors import DatasetError
from workers.data.labels import MAX_CLASSES, Labels, number_classes
from workers.zips import require_whole

_MAX_BYTES = 16 << 30  # it has to fit into memory; a small file can unpack to more
_MEND = "save uint8 images as [images, height, width, channels] with numpy.savez, or bring a folder or a ZIP"


def npz_collection(dataset: NpzDataset) -> ImageCollection:
    """All of it in memory.

    Raises:
        DatasetError: it is no such archive, or does not say which of its arrays the images are.
    """
    place = dataset.path
    arrays = _arrays(place)
    pixels = _images(arrays, dataset.images, place)
    rest = {name: _without_columns_of_one(array) for name, array in arrays.items() if array is not pixels}
    flat = [array for array in rest.values() if array.ndim == 1]
    numbers = [array for array in flat if array.dtype.kind in "iu" and len(array) == len(pixels)]
    if len(numbers) > 1:
        raise DatasetError(f"{place}: has {len(numbers)} arrays that could be its labels; keep one of them")
    if not numbers and (odd := next((name for name in rest if _looks_like_labels(rest[name], len(pixels))), None)):
        array, mend = arrays[odd], "save whole numbers from 0, one for each image, or leave the array out"
        raise DatasetError(f"{place}: {odd} {array.dtype}{list(array.shape)} could be its labels; {mend}")
    labels = _labels(numbers[0], [array for array in flat if array.dtype.kind == "U"], place) if numbers else None
    return of_arrays(pixels, labels, place=place, channels=dataset.channels, resolution=dataset.resolution)


def _arrays(place: str) -> Mapping[str, np.ndarray]:
    try:
        with ZipFile(place) as archive:
            require_whole(archive, most_bytes=_MAX_BYTES)  # NumPy reads to no end, where checksums are compared
            others = [name for name in archive.namelist() if not name.endswith(".npy")]
            if others:
                raise OSError(f"{others[0]} in it is no array")
        with np.load(Path(place), allow_pickle=False) as loaded:
            return {name: loaded[name] for name in loaded.files}
    except FileNotFoundError:
        raise DatasetError(f"{place}: no such file where the workers run") from None
    except Exception as error:  # noqa: BLE001 - there is nothing that a damaged archive may not raise
        raise DatasetError(f"{place}: cannot be read as a NumPy archive: {error}; {_MEND}") from None


def _images(arrays: Mapping[str, np.ndarray], name: str | None, place: str) -> np.ndarray:
    known = ", ".join(f"{key} {array.dtype}{list(array.shape)}" for key, array in arrays.items())
    candidates = [key for key, array in arrays.items() if _holds_images(array)]
    if name is not None:
        candidates = [key for key in candidates if key == name]
    match candidates:
        case [one] if len(arrays[one]):
            return arrays[one]
        case [_, _, *_]:
            raise DatasetError(f"{place}: say which array the images are, dataset.images; it has {known}")
        case _:
            asked = f"no images in an array {name!r}" if name else "no images in it"
            raise DatasetError(f"{place}: {asked}; it has {known or 'nothing'}; {_MEND}")


def _holds_images(array: np.ndarray) -> bool:
    return array.dtype == np.uint8 and (array.ndim == 3 or (array.ndim == 4 and array.shape[3] in (1, 3, 4)))


def _without_columns_of_one(array: np.ndarray) -> np.ndarray:
    """Keras has its labels as [images, 1]."""
    return array[:, 0] if array.ndim == 2 and array.shape[1] == 1 else array


def _looks_like_labels(array: np.ndarray, num_images: int) -> bool:
    """Whether they are class numbers that are no integers, or one-hot rows."""
    if array.ndim == 1:
        return len(array) == num_images and array.dtype.kind in "fb"
    if array.ndim != 2 or len(array) != num_images or array.dtype.kind not in "iufb":
        return False
    return bool((array.sum(axis=1) == 1).all() and ((array == 0) | (array == 1)).all())


def _labels(numbers: np.ndarray, strings: list[np.ndarray], place: str) -> Labels:
    if len(wrong := numbers[(numbers < 0) | (numbers >= MAX_CLASSES)]):
        raise DatasetError(f"{place}: has the label {wrong[0]}; number the classes from 0")
    if len(strings) == 1 and len(strings[0]) > MAX_CLASSES:
        raise DatasetError(f"{place}: names {len(strings[0]):,} classes; at most {MAX_CLASSES:,} are taken")
    classes, largest = tuple(strings[0].tolist()) if len(strings) == 1 else number_classes(numbers), int(numbers.max())
    if len(set(classes)) != len(classes) or len(classes) <= largest:
        raise DatasetError(f"{place}: names {len(classes)} classes, some alike or too few for label {largest}")
    return Labels.of(numbers, classes)
