"""Whether the paths of a job can be right, where this process sees the same file system as the workers."""

import zipfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import assert_never

from service.jobs.views import JobCreate
from workers.contract.comparing import CompareSpec
from workers.contract.data import (
    IMAGE_SUFFIXES,
    BuiltinDataset,
    CifarDataset,
    Dataset,
    FolderDataset,
    ImportedDataset,
    NpzDataset,
    ParquetDataset,
    WebDataset,
    ZipDataset,
)
from workers.contract.document import Problem
from workers.contract.evaluation import EvaluateSpec
from workers.contract.features import Features, Inception
from workers.contract.importing import ImportSpec
from workers.contract.jobs import AnySpec
from workers.contract.locations import bucket_and_key, is_bucket_folder, is_path
from workers.contract.sampling import Inpainting, SampleSpec
from workers.contract.spec import TrainSpec
from workers.storage import key_in

_POINTER, _WEIGHTS = "/spec/dataset/path", "/spec/initial_weights"
_UNREADABLE_ZIP = (zipfile.BadZipFile, NotImplementedError, UnicodeDecodeError)  # of a later version; with odd names

_Wrong = tuple[str, str]  # code and message


def request_problems(request: JobCreate) -> list[Problem]:
    """What is wrong with the paths of a job, and of the evaluations that are to follow it."""
    problems, wanted = path_problems(request.spec), request.evaluations
    if wanted:
        problems += _measured_with("/evaluations", wanted.features, wanted.reference)
    return problems


def place_problems(request: JobCreate, *, store_url: str, s3_sources: Sequence[str]) -> list[Problem]:
    """What of the files that a job names is nobody's to bring, however well the workers can read it.

    The service's own store, where those of all projects lie; and of buckets, which the workers read by their own rights
    and not by those of who asks, all but what the operator has opened. (Weights may lie in the store, as a job's:
    `references` sees whose.)
    """
    named, source = _files_of(request), _dataset_path(request.spec)
    reason = "lies in the store of the service itself; bring a file of your own"
    there = f"in {' or '.join(s3_sources)}" if s3_sources else "in no bucket (CDM_S3_SOURCES of the service)"
    problems = []
    for pointer, location in named.items():
        if pointer != _WEIGHTS and key_in(location, store_url) is not None:
            problems.append(Problem(pointer, "not_allowed", reason))
        elif _is_closed(location, store_url, *s3_sources):
            problems.append(Problem(pointer, "not_allowed", f"files may lie {there}; give a path of the workers"))
    if source and _is_or_holds(source, store_url):
        problems.append(Problem(_POINTER, "not_allowed", reason))
    elif source and _is_closed(source, *s3_sources):
        problems.append(Problem(_POINTER, "not_allowed", f"data sets may lie {there}; upload it instead"))
    return problems


def _is_closed(location: str, *opened: str) -> bool:
    """Whether it lies in a bucket, and in none of these places."""
    inside = f"{location}_" if is_bucket_folder(location) else location
    return bucket_and_key(location) is not None and not any(key_in(inside, place) for place in opened)


def _is_or_holds(source: str, store_url: str) -> bool:
    """Whether it is part of the store; or a folder that the store is part of, in the same file system or bucket."""
    may_hold = is_path(source) or is_bucket_folder(source)
    return key_in(f"{source}/_", store_url) is not None or (may_hold and key_in(f"{store_url}/_", source) is not None)


def _dataset_path(spec: AnySpec) -> str | None:
    dataset = spec.dataset if isinstance(spec, TrainSpec | ImportSpec) else None
    return None if dataset is None or isinstance(dataset, BuiltinDataset | ImportedDataset) else dataset.path


def _files_of(request: JobCreate) -> dict[str, str]:
    """Every file that a worker would read and show something of, beside the data set."""
    spec, wanted, named = request.spec, request.evaluations, dict[str, str | None]()
    if isinstance(spec, TrainSpec):
        named[_WEIGHTS] = spec.initial_weights
    if isinstance(spec, SampleSpec) and spec.inpainting:
        named |= {"/spec/inpainting/image": spec.inpainting.image, "/spec/inpainting/mask": spec.inpainting.mask}
    if isinstance(spec, EvaluateSpec):
        named |= {"/spec/reference": spec.reference, "/spec/features/weights": _weights(spec.features)}
    if wanted:
        named |= {
            "/evaluations/reference": wanted.reference,
            "/evaluations/features/weights": _weights(wanted.features),
        }
    return {pointer: location for pointer, location in named.items() if location}


def _measured_with(pointer: str, features: Features, reference: str | None) -> list[Problem]:
    files = {"reference": reference, "features/weights": _weights(features)}
    return [problem for name, location in files.items() for problem in _file_problems(f"{pointer}/{name}", location)]


def _weights(features: Features) -> str | None:
    return features.weights if isinstance(features, Inception) else None


def path_problems(spec: AnySpec) -> list[Problem]:
    """What is wrong with the paths. Whether all that they lead to can be read, the workers find out."""
    match spec:
        case TrainSpec():
            weights = _file_problems(_WEIGHTS, spec.initial_weights)
            return _dataset_problems(spec.dataset) + weights
        case ImportSpec():
            return _dataset_problems(spec.dataset)
        case EvaluateSpec():
            return _measured_with("/spec", spec.features, spec.reference)
        case SampleSpec(inpainting=Inpainting(image=image, mask=mask)):
            return _file_problems("/spec/inpainting/image", image) + _file_problems("/spec/inpainting/mask", mask)
        case SampleSpec() | CompareSpec():
            return []
        case _:
            assert_never(spec)


def _file_problems(pointer: str, location: str | None) -> list[Problem]:
    return _problems_at(pointer, location, _wrong_with_file) if location else []


def _dataset_problems(dataset: Dataset) -> list[Problem]:
    match dataset:
        case BuiltinDataset() | ImportedDataset():
            return []
        case FolderDataset():
            return _problems_at(_POINTER, dataset.path, _wrong_with_folder)
        case ZipDataset():
            return _problems_at(_POINTER, dataset.path, _wrong_with_zip)
        case CifarDataset() | NpzDataset():
            return _problems_at(_POINTER, dataset.path, _wrong_with_file)
        case ParquetDataset() | WebDataset():
            return _problems_at(_POINTER, dataset.path, _wrong_with_files)
        case _:
            assert_never(dataset)


def _problems_at(pointer: str, location: str, look: Callable[[Path], _Wrong | None]) -> list[Problem]:
    if not is_path(location):
        return []
    wrong = _wrong_with(Path(location), look)
    return [Problem(pointer, *wrong)] if wrong else []


def _wrong_with(path: Path, look: Callable[[Path], _Wrong | None]) -> _Wrong | None:
    if not path.is_absolute():
        return "not_absolute", f"{path} depends on the working directory; give a full path"
    try:
        return look(path)
    except OSError as error:  # no permission; too long
        reason = error.strerror or type(error).__name__
    except ValueError as error:  # a name that no file system takes
        reason = str(error)
    return "not_readable", f"cannot be read ({reason}); give a path that the service can read"


def _wrong_with_file(path: Path) -> _Wrong | None:
    return None if path.is_file() else ("not_found", f"there is no file {path}")


def _wrong_with_files(path: Path) -> _Wrong | None:
    return None if path.exists() else ("not_found", f"there is no file and no folder {path}")


def _wrong_with_folder(path: Path) -> _Wrong | None:
    if not path.is_dir():
        return "not_found", f"there is no folder {path}"
    return _wrong_with_images(entry.name for entry in path.rglob("*"))


def _wrong_with_zip(path: Path) -> _Wrong | None:
    if missing := _wrong_with_file(path):
        return missing
    try:
        with zipfile.ZipFile(path) as archive:
            return _wrong_with_images(archive.namelist())
    except _UNREADABLE_ZIP as error:
        return "not_a_zip", f"{path} is not a ZIP file that can be read ({error}); pack it again"


def _wrong_with_images(names: Iterable[str]) -> _Wrong | None:
    if any(name.lower().endswith(IMAGE_SUFFIXES) for name in names):
        return None
    return "no_images", f"holds no image ({', '.join(IMAGE_SUFFIXES)})"
