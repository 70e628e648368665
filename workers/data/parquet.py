"""Parquet files of images, as Hugging Face's `datasets` writes them."""

import json
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from itertools import accumulate
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from jaxtyping import Int64

from workers.contract.data import ParquetDataset
from workers.data.collection import ImageCollection, check_count
from workers.data.errors import DatasetError, ImageError
from workers.data.files import check_size, files_at
from workers.data.labels import MAX_CLASSES, Labels, number_classes
from workers.data.pixels import decode

_ROWS_AT_A_TIME = 8  # a value takes its place in memory for each row, however often it is repeated in a few bytes
_LABELS_AT_A_TIME = 1 << 16
_ROWS_HELD = 64  # images are read in their order, some threads a little ahead of others
_ERRORS = (pa.ArrowException, OSError, ValueError, IndexError)  # the last two: damaged names and sizes


@contextmanager
def parquet_collection(dataset: ParquetDataset) -> Iterator[ImageCollection]:
    """The rows of all files, in the order of their names.

    Raises:
        DatasetError: a file cannot be read, or it does not say which column the images are.
    """
    place, paths = dataset.path, files_at(Path(dataset.path), dataset.suffix, split=dataset.split)
    with ExitStack() as stack:
        try:
            files = {each.stem: stack.enter_context(pq.ParquetFile(each)) for each in paths}
            collection = _collection(dataset, files)
        except DatasetError:
            raise
        except FileNotFoundError:
            raise DatasetError(f"{place}: no such file where the workers run") from None
        except _ERRORS as error:
            raise DatasetError(f"{place}: cannot be read as Parquet: {error}") from None
        yield collection


def _collection(dataset: ParquetDataset, files: Mapping[str, pq.ParquetFile]) -> ImageCollection:
    """Of files that have the same columns, and describe them alike."""
    place, num_images = dataset.path, sum(file.metadata.num_rows for file in files.values())
    if num_images <= 0:
        raise DatasetError(f"{place}: no rows in it")
    check_count(num_images, place)
    (first, schema), *others = ((name, file.schema_arrow) for name, file in files.items())
    features = _features(schema)
    for name, other in others:
        if other != schema:
            raise DatasetError(f"{place}: {name} has other columns than {first}; bring one table at a time")
        if _features(other) != features:
            raise DatasetError(f"{place}: {name} describes its columns, its classes maybe, otherwise than {first}")
    tables = list(files.values())
    rows = _Rows(tables, _image_column(schema, features, dataset.column, place))
    return ImageCollection(
        place=place,
        num_images=num_images,
        name=_naming(files),
        labels=_labels(tables, features, num_images, dataset),
        channels=dataset.channels,
        resolution=dataset.resolution,
        num_ignored=0,
        image=lambda index: decode(rows.read(index)),
    )


def _naming(files: Mapping[str, pq.ParquetFile]) -> Callable[[int], str]:
    """Rows are called by their file and their number in it."""
    stems, starts = list(files), [0, *accumulate(file.metadata.num_rows for file in files.values())]

    def name(index: int) -> str:
        number = bisect_right(starts, index) - 1
        return f"{stems[number]}/{index - starts[number]:08d}"

    return name


class _Rows:
    """The images of a column by their number over all files, in about their order; may be asked by several threads.

    One that was read is let go of: it keeps all those in memory that came with it.
    """

    def __init__(self, files: Sequence[pq.ParquetFile], column: str) -> None:
        self._files, self._column, self._lock = files, column, Lock()
        self._begin()

    def read(self, index: int) -> bytes:
        with self._lock:
            if index < self._next and index not in self._held:
                self._begin()
            while index >= self._next:
                self._read_on()
            value = self._held.pop(index)
        return _bytes_of(value)

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


def _bytes_of(value: pa.Scalar) -> bytes:
    while isinstance(value, pa.StructScalar):
        try:
            value = value["bytes"]
        except KeyError:  # there are several
            raise ImageError("has bytes more than once", mend="save the table with one column of them") from None
    data: pa.Buffer | None = value.as_buffer()
    if data is None:
        raise ImageError("has no bytes, only a path", mend="save the table with its images embedded")
    check_size(data.size)
    return bytes(data)


def _features(schema: pa.Schema) -> Mapping[str, Any]:
    """What `datasets` has written of the columns; nothing if something else has made the file."""
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
        known = {name: _feature(each) for name, each in features.items() if name in schema.names}
        return {name: each for name, each in known.items() if isinstance(each, dict)}
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError):
        return {}


def _feature(written: Any) -> Any:
    """Older files have [feature] where newer ones have a `Sequence` of it."""
    return {"feature": written[0]} if isinstance(written, list) and len(written) == 1 else written


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


def _label_column(schema: pa.Schema, features: Mapping[str, Any], name: str | None, place: str) -> str | None:
    """None if nothing says that there are labels."""
    if name is not None:
        if name not in schema.names:
            raise DatasetError(f"{place}: no column {name!r} of labels; it has {', '.join(schema.names)}")
        return name
    columns = [name for name, each in features.items() if _is_class_label(each)]
    if len(columns) > 1:
        which = "say which it is, dataset.label_column"
        raise DatasetError(f"{place}: {len(columns)} columns of class labels, {', '.join(columns)}; {which}")
    if columns:
        return columns[0]
    if of_lists := next((name for name, each in features.items() if _is_class_label(each.get("feature"))), None):
        mend = "save the table with one label for each image, or without that column"
        raise DatasetError(f"{place}: {of_lists} has lists of class labels; {mend}")
    return None


def _is_class_label(feature: object) -> bool:
    return isinstance(feature, dict) and feature.get("_type") == "ClassLabel"


def _labels(
    files: Sequence[pq.ParquetFile], features: Mapping[str, Any], count: int, dataset: ParquetDataset
) -> Labels | None:
    place = dataset.path
    column = _label_column(files[0].schema_arrow, features, dataset.label_column, place)
    if column is None:
        return None
    names = features.get(column, {}).get("names")
    classes = tuple(map(str, names)) if isinstance(names, list) else ()
    values, done = np.empty(count, dtype=np.int32), 0
    for part in _label_parts(files, column, min(len(classes) or MAX_CLASSES, MAX_CLASSES), place):
        if (end := done + len(part)) > count:
            raise DatasetError(f"{place}: has {count} rows, and more labels in {column}; save the table again")
        values[done:end] = part
        done = end
    if done < count:
        raise DatasetError(f"{place}: has {count} rows, and {done} labels in {column}; save the table again")
    return Labels(values, classes or number_classes(values))


def _label_parts(
    files: Sequence[pq.ParquetFile], column: str, num_classes: int, place: str
) -> Iterator[Int64[np.ndarray, "rows"]]:
    """Those of a few rows at a time.

    Raises:
        DatasetError: naming the first row that has no label, or one that is no class.
    """
    kind = files[0].schema_arrow.field(column).type
    if not pa.types.is_integer(kind):
        raise DatasetError(f"{place}: the labels in {column} are {kind}, no whole numbers; number the classes from 0")
    row = 0
    for file in files:
        for batch in file.iter_batches(batch_size=_LABELS_AT_A_TIME, columns=[column]):
            given = batch.column(0)
            numbers = pc.fill_null(given.cast(pa.int64(), safe=False), -1).to_numpy()
            if (wrong := (numbers < 0) | (numbers >= num_classes)).any():
                at = int(wrong.argmax())
                said = f"row {row + at} has the label {given[at].as_py()!r} in {column}"
                raise DatasetError(f"{place}: {said}; number the classes from 0")
            yield numbers
            row += len(numbers)
