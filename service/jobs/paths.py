"""Whether the paths of a job can be right, where this process sees the same file system as the workers."""

import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import assert_never

from workers.contract.data import IMAGE_SUFFIXES, BuiltinDataset, Dataset, FolderDataset, ZipDataset
from workers.contract.document import Problem
from workers.contract.spec import TrainSpec

_POINTER = "/spec/dataset/path"
_WEIGHTS_POINTER = "/spec/initial_weights"


def path_problems(spec: TrainSpec) -> list[Problem]:
    """What is wrong with the paths. Whether all that they lead to can be read, the workers find out."""
    return _dataset_problems(spec.dataset) + _weights_problems(spec.initial_weights)


def _weights_problems(location: str | None) -> list[Problem]:
    if location is None or "://" in location:
        return []
    path = Path(location)
    if not path.is_absolute():
        return [_not_absolute(_WEIGHTS_POINTER, path)]
    return [] if path.is_file() else [Problem(_WEIGHTS_POINTER, "not_found", f"there is no file {path}")]


def _not_absolute(pointer: str, path: Path) -> Problem:
    return Problem(pointer, "not_absolute", f"{path} depends on the working directory; give a full path")


def _dataset_problems(dataset: Dataset) -> list[Problem]:
    match dataset:
        case BuiltinDataset():
            return []
        case FolderDataset() | ZipDataset():
            path = Path(dataset.path)
            if not path.is_absolute():
                return [_not_absolute(_POINTER, path)]
            try:
                return _folder_problems(path) if dataset.kind == "folder" else _zip_problems(path)
            except (OSError, ValueError) as error:  # no permission; a name no file system takes
                return [Problem(_POINTER, "not_readable", f"cannot read it: {error}")]
        case _:
            assert_never(dataset)


def _folder_problems(path: Path) -> list[Problem]:
    if not path.is_dir():
        return [Problem(_POINTER, "not_found", f"there is no folder {path}")]
    return _image_problems(entry.name for entry in path.rglob("*"))


def _zip_problems(path: Path) -> list[Problem]:
    if not path.is_file():
        return [Problem(_POINTER, "not_found", f"there is no file {path}")]
    try:
        with zipfile.ZipFile(path) as archive:
            return _image_problems(archive.namelist())
    except zipfile.BadZipFile:
        return [Problem(_POINTER, "not_a_zip", f"{path} is not a ZIP file")]


def _image_problems(names: Iterable[str]) -> list[Problem]:
    if any(name.lower().endswith(IMAGE_SUFFIXES) for name in names):
        return []
    return [Problem(_POINTER, "no_images", f"holds no image ({', '.join(IMAGE_SUFFIXES)})")]
