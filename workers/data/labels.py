"""Which class each image belongs to: as `dataset.json` says, or as the top-level folders do."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from jaxtyping import Int32

from workers.data.errors import DatasetError, Faults, ImageError

LABEL_FILE = "dataset.json"
MAX_CLASSES = 100_000  # a label is an index of a class; one beyond this is an id of something else
MAX_CLASS_CHARACTERS = 255
_ALL_CLASS_CHARACTERS = 4 << 20  # the service reads all names at once, of many data sets
_UNSEEN = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")  # terminals obey these, or they are no text
_RELABEL = f"make {LABEL_FILE} list every image once, with a whole number from 0"


@dataclass(frozen=True, slots=True, eq=False)
class Labels:
    """One class per image, in the order of the images, as an index into the names of the classes."""

    values: Int32[np.ndarray, "images"]
    classes: tuple[str, ...]

    @classmethod
    def of(cls, values: Sequence[int] | np.ndarray, classes: tuple[str, ...]) -> Self:
        """Of whole numbers that are in range."""
        return cls(np.asarray(values, dtype=np.int32), classes)


def check_class_names(classes: Sequence[str], place: str) -> None:
    """Of whatever format.

    Raises:
        DatasetError: they are too many or too long, or there are control characters in one.
    """
    if len(classes) > MAX_CLASSES:
        raise DatasetError(f"{place}: names {len(classes):,} classes; at most {MAX_CLASSES:,} are taken")
    if long := next((name for name in classes if len(name) > MAX_CLASS_CHARACTERS), None):
        raise DatasetError(
            f"{place}: the name of a class, {long[:40]!r}..., has {len(long):,} characters; "
            f"shorten it to {MAX_CLASS_CHARACTERS}"
        )
    if odd := next(filter(_UNSEEN.search, classes), None):
        raise DatasetError(f"{place}: the name of a class, {odd!r}, has characters that cannot be shown; remove them")
    if (total := sum(map(len, classes))) > _ALL_CLASS_CHARACTERS:
        raise DatasetError(
            f"{place}: the names of its classes have {total:,} characters; shorten them to {_ALL_CLASS_CHARACTERS:,}"
        )


def in_range(label: int) -> bool:
    """Whether it can be the number of a class."""
    return 0 <= label < MAX_CLASSES


def number_classes(values: Sequence[int] | np.ndarray) -> tuple[str, ...]:
    """Names for classes that have none: their numbers."""
    return tuple(map(str, range(int(np.max(values)) + 1)))


def folder_labels(names: Sequence[str], *, place: str) -> Labels | None:
    """The top-level folder of each image is its class; a single folder, or none, means no labels."""
    folders = [name.rpartition("/")[0].partition("/")[0] for name in names]
    classes = tuple(sorted(set(folders) - {""}))
    if len(classes) < 2:
        return None
    faults = Faults(place)
    for name, folder in zip(names, folders, strict=True):
        if not folder:
            faults.add(name, ImageError("lies beside the class folders", mend="put each image into a class folder"))
    if faults:
        faults.refuse()
    index = {name: number for number, name in enumerate(classes)}
    return Labels.of([index[folder] for folder in folders], classes)


def file_labels(document: bytes, names: Sequence[str], *, place: str) -> Labels | None:
    """Labels as the StyleGAN and EDM tools write them: `{"labels": [[name, int], ...]}`, or null for none.

    An optional `"classes": [name, ...]` names the classes; without it they are called by their numbers.

    Raises:
        DatasetError: naming every image that has no label or a wrong one, and every label that has no image.
    """
    content = _parsed(document, place)
    entries = content.get("labels")
    if entries is None:
        return None
    if not isinstance(entries, list):
        raise DatasetError(f'{place}: "labels" in {LABEL_FILE} must be a list of [name, number] or null')
    faults = Faults(place)
    given = _given(entries, faults)
    for name in given.keys() - set(names):
        faults.add(name, ImageError(f"has a label in {LABEL_FILE} but is not there", mend=_RELABEL))
    for name in set(names) - given.keys():
        faults.add(name, ImageError(f"has no label in {LABEL_FILE}", mend=_RELABEL))
    if faults:
        faults.refuse()
    values = tuple(given[name] for name in names)
    return Labels.of(values, _classes(content.get("classes"), values, place))


def _parsed(document: bytes, place: str) -> dict[str, Any]:
    try:
        content = json.loads(document)
    except (ValueError, RecursionError) as error:
        raise DatasetError(f"{place}: {LABEL_FILE} is not valid JSON: {error}") from error
    if not isinstance(content, dict):
        raise DatasetError(f'{place}: {LABEL_FILE} must be an object with "labels"')
    return content


def _given(entries: list[Any], faults: Faults) -> dict[str, int]:
    given: dict[str, int] = {}
    for entry in entries:
        match entry:
            case [str(name), bool(label)]:
                faults.add(name, ImageError(f"has the label {label} in {LABEL_FILE}", mend=_RELABEL))
            case [str(name), int(label)] if in_range(label):
                name = name.replace("\\", "/")  # written on Windows
                if given.setdefault(name, label) != label:
                    faults.add(name, ImageError(f"has two labels in {LABEL_FILE}", mend=_RELABEL))
            case [str(name), label]:
                faults.add(name, ImageError(f"has the label {label!r:.40} in {LABEL_FILE}", mend=_RELABEL))
            case _:
                raise DatasetError(f"{faults.place}: {LABEL_FILE} lists {entry!r:.80} instead of [name, number]")
    return given


def _classes(names: Any, values: Sequence[int], place: str) -> tuple[str, ...]:
    num_labels = max(values) + 1
    match names:
        case None:
            return number_classes(values)
        case [*_] if all(isinstance(name, str) for name in names) and len(set(names)) == len(names) >= num_labels:
            return tuple(names)
        case _:
            raise DatasetError(f'{place}: "classes" in {LABEL_FILE} must be {num_labels} or more different names')
