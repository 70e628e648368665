"""Parquet files of images, as Hugging Face's `datasets` writes them."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from threading import Lock
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from workers.contract.data import ParquetDataset
from workers.data.errors import DatasetError, ImageError
from workers.data.files import files_at
from workers.data.labels import Labels, in_range, number_classes
from workers.data.pixels import decode
from workers.data.source import Source

_ROWS_AT_A_TIME = 64  # a value may unpack to far more than it takes in the file
_ROWS_HELD = 4 * _ROWS_AT_A_TIME  # images are read in their order, some threads a little ahead of others
_ERRORS = (pa.ArrowException, OSError, ValueError, IndexError)  # the last two: damaged names and sizes


@contextmanager
def parquet_source(dataset: ParquetDataset) -> Iterator[Source]:
    """The rows of all files, in the order of their names.

    Raises:
        DatasetError: a file cannot be read, or it does not say which column the images are.
    """
    place, paths = dataset.path, files_at(Path(dataset.path), ".parquet")
    with ExitStack() as stack:
        try:
            files = {each.stem: stack.enter_context(pq.ParquetFile(each)) for each in paths}
            source = _source(dataset, files)
        except DatasetError:
            raise
        except FileNotFoundError:
            raise DatasetError(f"{place}: no such file where the workers run") from None
        except _ERRORS as error:
            raise DatasetError(f"{place}: cannot be read as Parquet: {error}") from None
        yield source


def _source(dataset: ParquetDataset, files: Mapping[str, pq.ParquetFile]) -> Source:
    """Of files that have the same columns, and describe them alike."""
    place = dataset.path
    names = tuple(f"{name}/{row:08d}" for name, file in files.items() for row in range(file.metadata.num_rows))
    if not names:
        raise DatasetError(f"{place}: no rows in it")
    (first, schema), *others = ((name, file.schema_arrow) for name, file in files.items())
    features = _features(schema)
    for name, other in others:
        if other != schema:
            raise DatasetError(f"{place}: {name} has other columns than {first}; bring one table at a time")
        if _features(other) != features:
            raise DatasetError(f"{place}: {name} describes its columns, its classes maybe, otherwise than {first}")
    tables = list(files.values())
    rows = _Rows(tables, _image_column(schema, features, dataset.column, place))
    return Source(
        place=place,
        names=names,
        labels=_labels(tables, features, place),
        channels=dataset.channels,
        resolution=dataset.resolution,
        num_ignored=0,
        image=lambda index: decode(rows.read(index)),
    )


class _Rows:
    """The images of a column by their number over all files, in about their order; may be asked by several threads."""

    def __init__(self, files: Sequence[pq.ParquetFile], column: str) -> None:
        self._files, self._column, self._lock = files, column, Lock()
        self._begin()

    def read(self, index: int) -> bytes:
        with self._lock:
            if index < self._next and index not in self._held:
                self._begin()
            while index >= self._next:
                self._read_on()
            held = self._held[index]
        try:
            value = held.as_py()
        except ValueError as error:  # a name that is no text
            raise ImageError(f"cannot be unpacked: {error}") from error
        data = value.get("bytes") if isinstance(value, dict) else value
        if not isinstance(data, bytes):
            raise ImageError("has no bytes, only a path", mend="save the table with its images embedded")
        return data

    def _begin(self) -> None:
        self._batches = (
            batch
            for file in self._files
            for batch in file.iter_batches(batch_size=_ROWS_AT_A_TIME, columns=[self._column])
        )
        self._held: dict[int, Any] = {}
        self._next = 0
        self._broken: ImageError | None = None

    def _read_on(self) -> None:
        """What cannot be read hides all that comes after it."""
        if self._broken:
            raise self._broken
        try:
            batch = next(self._batches)
        except StopIteration:
            self._broken = ImageError("is missing: its file has fewer rows than it says")
            raise self._broken from None
        except _ERRORS as error:
            self._broken = ImageError(f"cannot be unpacked: {error}")
            raise self._broken from error
        self._held |= {self._next + row: value for row, value in enumerate(batch.column(0))}
        self._next += len(batch)
        for row in [row for row in self._held if row < self._next - _ROWS_HELD]:
            del self._held[row]


def _features(schema: pa.Schema) -> Mapping[str, Any]:
    """What `datasets` has written of the columns; nothing if something else has made the file."""
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
        return {name: each for name, each in features.items() if isinstance(each, dict) and name in schema.names}
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError):
        return {}


def _image_column(schema: pa.Schema, features: Mapping[str, Any], name: str | None, place: str) -> str:
    columns: set[str] = {field.name for field in schema if _holds_bytes(field.type)}
    marked = {column for column in columns if features.get(column, {}).get("_type") == "Image"}
    candidates = columns & {name} if name is not None else marked or columns
    if len(candidates) == 1:
        return candidates.pop()
    known = ", ".join(f"{field.name} {field.type}" for field in schema)
    which = f"no column {name!r} of images" if name is not None else f"{len(candidates) or 'no'} columns of images"
    raise DatasetError(f"{place}: {which}; say which it is, dataset.column; it has {known}")


def _holds_bytes(kind: pa.DataType) -> bool:
    if pa.types.is_struct(kind):
        return any(field.name == "bytes" and _holds_bytes(field.type) for field in kind)
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def _labels(files: Sequence[pq.ParquetFile], features: Mapping[str, Any], place: str) -> Labels | None:
    columns = [name for name, each in features.items() if each.get("_type") == "ClassLabel"]
    if len(columns) != 1:
        return None
    (column,) = columns
    values = tuple(value for file in files for value in file.read(columns=[column]).column(0).to_pylist())
    names = features[column].get("names")
    classes = tuple(map(str, names)) if isinstance(names, list) else None
    for row, value in enumerate(values):
        if type(value) is not int or not in_range(value) or (classes and value >= len(classes)):
            raise DatasetError(f"{place}: row {row} has the label {value!r} in {column}; number the classes from 0")
    return Labels(values, classes or number_classes(values))
