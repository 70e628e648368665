"""Which files a request for a job names, and whether they can be right.

Paths are looked at where this process sees the same file system as the workers; uploads are to be whole, and of the
same project.
"""

import zipfile
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from pathlib import Path
from typing import assert_never

from service.jobs.views import JobCreate
from service.uploads.objects import UploadObjects
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
from workers.contract.files import INITIAL_WEIGHTS, WEIGHTS, files_of, measuring_files
from workers.contract.importing import ImportSpec
from workers.contract.jobs import AnySpec
from workers.contract.locations import bucket_and_key, is_bucket_folder, is_in_a_store_here, is_path, uploaded_id
from workers.contract.spec import TrainSpec
from workers.storage import key_in

DATASET = "/spec/dataset/path"
OWN_WEIGHTS = (f"/spec{INITIAL_WEIGHTS}", f"/spec{WEIGHTS}")  # may be a job's of the same project


def named_files(request: JobCreate) -> dict[str, str]:
    """Every file beside the data set that a worker would read for it, and for evaluations that follow, and tell of."""
    wanted = request.evaluations
    following = measuring_files(wanted.features, wanted.reference) if wanted else {}
    return {f"/spec{pointer}": location for pointer, location in files_of(request.spec).items()} | {
        f"/evaluations{pointer}": location for pointer, location in following.items()
    }


def dataset_path(spec: AnySpec) -> str | None:
    """Where the images lie, if they are to be imported from somewhere."""
    dataset = spec.dataset if isinstance(spec, TrainSpec | ImportSpec) else None
    return None if dataset is None or isinstance(dataset, BuiltinDataset | ImportedDataset) else dataset.path


async def upload_problems(
    request: JobCreate, *, project: str, uploads: UploadObjects, now: datetime, held_by: str | None
) -> list[Problem]:
    """Which cannot be read, and why. What the job `held_by` keeps may have expired."""
    problems = []
    for pointer, upload_id in _uploads(request).items():
        mend = "upload the file again"
        if pointer == DATASET:
            mend += ', or name what was imported of it by its digest: "kind": "imported"'
        record = await uploads.find(upload_id)
        if record is None or record.project != project:
            reason = f"there is no upload {upload_id}"
        elif record.expires_at <= now and held_by not in await uploads.jobs(upload_id):
            reason = f"{upload_id} has expired; {mend}"
        elif missing := await uploads.missing(upload_id, record):
            lacks = f"{len(missing)} of its {len(record.part_sizes)} parts have not come yet"
            reason = f"{upload_id} is not whole: {lacks}; send them first"
        else:
            continue
        problems.append(Problem(pointer, "not_found", reason))
    return problems


def upload_ids(request: JobCreate) -> tuple[str, ...]:
    """Of all that the job reads, and the evaluations that follow it."""
    return tuple(dict.fromkeys(_uploads(request).values()))


def _uploads(request: JobCreate) -> dict[str, str]:
    """The ids of those that it names, by the field that names each."""
    path = dataset_path(request.spec)
    locations = named_files(request) | ({DATASET: path} if path else {})
    found = {pointer: uploaded_id(location) for pointer, location in locations.items()}
    return {pointer: upload_id for pointer, upload_id in found.items() if upload_id}


_UNREADABLE_ZIP = (zipfile.BadZipFile, NotImplementedError, UnicodeDecodeError)  # of a later version; with odd names

_Wrong = tuple[str, str]  # code and message


def request_problems(request: JobCreate) -> list[Problem]:
    """What is wrong with the paths of a job, and of the evaluations that are to follow it.

    Whether all that they lead to can be read, the workers find out.
    """
    spec = request.spec
    problems = _dataset_problems(spec.dataset) if isinstance(spec, TrainSpec | ImportSpec) else []
    for pointer, location in named_files(request).items():
        problems += _problems_at(pointer, location, _wrong_with_file)
    return problems


def place_problems(request: JobCreate, *, store_url: str, s3_sources: Sequence[str]) -> list[Problem]:
    """What of the files that a job names is nobody's to bring, however well the workers can read it.

    The service's own store, where those of all projects lie; other stores; and of buckets, which the workers read by
    their own rights and not by those of who asks, all but what the operator has opened. (Weights may lie in the store,
    as a job's: `references` sees whose.)
    """
    named, source = named_files(request), dataset_path(request.spec)
    reason = "lies in the store of the service itself; bring a file of your own"
    there = f"in {' or '.join(s3_sources)}" if s3_sources else "in no bucket (CDM_S3_SOURCES of the service)"
    problems = []
    for pointer, location in named.items():
        if key_in(location, store_url) is not None:
            problems += [Problem(pointer, "not_allowed", reason)] if pointer not in OWN_WEIGHTS else []
        elif _is_closed(location, *s3_sources):
            problems.append(Problem(pointer, "not_allowed", f"files may lie {there}; upload the file instead"))
        elif is_in_a_store_here(location):
            mend = "is in no place that workers share; give a path of the workers, or upload the file"
            problems.append(Problem(pointer, "not_allowed", mend))
    if source and _is_or_holds(source, store_url):
        problems.append(Problem(DATASET, "not_allowed", reason))
    elif source and _is_closed(source, *s3_sources):
        problems.append(Problem(DATASET, "not_allowed", f"data sets may lie {there}; upload it instead"))
    return problems


def _is_closed(location: str, *opened: str) -> bool:
    """Whether it lies in a bucket, and in none of these places."""
    inside = f"{location}_" if is_bucket_folder(location) else location
    return bucket_and_key(location) is not None and not any(key_in(inside, place) for place in opened)


def _is_or_holds(source: str, store_url: str) -> bool:
    """Whether it is part of the store; or a folder that the store is part of, in the same file system or bucket."""
    may_hold = is_path(source) or is_bucket_folder(source)
    return key_in(f"{source}/_", store_url) is not None or (may_hold and key_in(f"{store_url}/_", source) is not None)


def _dataset_problems(dataset: Dataset) -> list[Problem]:
    match dataset:
        case BuiltinDataset() | ImportedDataset():
            return []
        case FolderDataset():
            return _problems_at(DATASET, dataset.path, _wrong_with_folder)
        case ZipDataset():
            return _problems_at(DATASET, dataset.path, _wrong_with_zip)
        case CifarDataset() | NpzDataset():
            return _problems_at(DATASET, dataset.path, _wrong_with_file)
        case ParquetDataset() | WebDataset():
            return _problems_at(DATASET, dataset.path, _wrong_with_files)
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
