"""Parquet files of images, as Hugging Face's `datasets` writes them."""

import json
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import lru_cache
from itertools import accumulate
from pathlib import Path
from threading import Lock
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from workers.contract.data import ParquetDataset
from workers.data.errors import DatasetError, ImageError
from workers.data.labels import Labels, in_range, number_classes
from workers.data.pixels import decode
from workers.data.source import Source

_GROUPS_HELD = 2  # in memory: images are read in their order, some threads a little ahead of others
_ERRORS = (pa.ArrowException, OSError)


@contextmanager
def parquet_source(dataset: ParquetDataset) -> Iterator[Source]:
    """The rows of all files, in the order of their names.

    Raises:
        DatasetError: a file cannot be read, or it does not say which column the images are.
    """
    place, path = dataset.path, Path(dataset.path)
    paths = sorted(path.glob("*.parquet")) if path.is_dir() else [path]
    if not paths:
        raise DatasetError(f"{place}: no .parquet file in it")
    with ExitStack() as stack:
        files = [stack.enter_context(_opened(each)) for each in paths]
        schema = files[0].schema_arrow
        if odd := next((each for each, file in zip(paths, files, strict=True) if file.schema_arrow != schema), None):
            raise DatasetError(f"{place}: {odd.name} has other columns than {paths[0].name}; bring one table at a time")
        features = _features(schema)
        column = _image_column(schema, features, dataset.column, place)
        names = tuple(
            f"{path.stem}/{row:08d}"
            for path, file in zip(paths, files, strict=True)
            for row in range(file.metadata.num_rows)
        )
        if not names:
            raise DatasetError(f"{place}: no rows in it")
        rows = _Rows(files, column)
        yield Source(
            place=place,
            names=names,
            labels=_labels(files, features, place),
            channels=dataset.channels,
            resolution=dataset.resolution,
            num_ignored=0,
            image=lambda index: decode(rows.read(index)),
        )


def _opened(path: Path) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(path)
    except FileNotFoundError:
        raise DatasetError(f"{path}: no such file where the workers run") from None
    except _ERRORS as error:
        raise DatasetError(f"{path}: cannot be read as Parquet: {error}") from None


class _Rows:
    """The images of a column by their number over all files; may be asked by several threads."""

    def __init__(self, files: Sequence[pq.ParquetFile], column: str) -> None:
        self._groups = [(file, group) for file in files for group in range(file.num_row_groups)]
        sizes = [file.metadata.row_group(group).num_rows for file, group in self._groups]
        self._starts = [0, *accumulate(sizes)]
        self._column, self._lock = column, Lock()
        self._group = lru_cache(maxsize=_GROUPS_HELD)(self._read_group)

    def read(self, index: int) -> bytes:
        number = bisect_right(self._starts, index) - 1
        with self._lock:
            value = self._group(number)[index - self._starts[number]].as_py()
        data = value.get("bytes") if isinstance(value, dict) else value
        if not isinstance(data, bytes):
            raise ImageError("has no bytes, only a path", mend="save the table with its images embedded")
        return data

    def _read_group(self, number: int) -> Any:
        file, group = self._groups[number]
        try:
            return file.read_row_group(group, columns=[self._column]).column(0)
        except _ERRORS as error:
            raise ImageError(f"cannot be unpacked: {error}") from error


def _features(schema: pa.Schema) -> Mapping[str, Any]:
    """What `datasets` has written of the columns; nothing if something else has made the file."""
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
    except (KeyError, TypeError, ValueError):
        return {}
    return (
        {name: each for name, each in features.items() if isinstance(each, dict)} if isinstance(features, dict) else {}
    )


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
    try:
        values = tuple(value for file in files for value in file.read(columns=[column]).column(0).to_pylist())
    except _ERRORS as error:
        raise DatasetError(f"{place}: column {column} cannot be read: {error}") from None
    names = features[column].get("names")
    classes = tuple(map(str, names)) if isinstance(names, list) else None
    for row, value in enumerate(values):
        if type(value) is not int or not in_range(value) or (classes and value >= len(classes)):
            raise DatasetError(f"{place}: row {row} has the label {value!r} in {column}; number the classes from 0")
    return Labels(values, classes or number_classes(values))
