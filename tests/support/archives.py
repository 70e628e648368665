"""Image collections as the usual tools write them."""

import io
import json
import pickle
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq


class _OfPython2(pickle._Pickler):  # type: ignore[misc, name-defined] # the one in Python, which can be changed
    """Writes all strings as those of Python 2, by the operations that are in CIFAR's published files."""

    dispatch = pickle._Pickler.dispatch.copy()  # type: ignore[attr-defined]

    def _save_string(self, text: str | bytes) -> None:
        value = text.encode() if isinstance(text, str) else text
        is_short = len(value) < 256
        operation = pickle.SHORT_BINSTRING if is_short else pickle.BINSTRING
        self.write(operation + len(value).to_bytes(1 if is_short else 4, "little") + value)
        self.memoize(text)

    dispatch[bytes] = dispatch[str] = _save_string


def pickled_by_python2(value: object) -> bytes:
    buffer = io.BytesIO()
    _OfPython2(buffer, protocol=2).dump(value)
    return buffer.getvalue().replace(b"numpy._core.", b"numpy.core.")  # its place in the NumPy of that time


def write_tar(path: Path, files: Mapping[str, bytes], *, mode: str = "w") -> str:
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload] # a mode is one of many literals
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return str(path)


def cifar10_files(batches: Sequence[tuple[np.ndarray, list[int]]], names: list[bytes]) -> dict[str, bytes]:
    """Batches [count, 3, 32, 32] with labels: the last is the one for tests."""
    keys = [f"data_batch_{number}" for number in range(1, len(batches))] + ["test_batch"]
    files = {"batches.meta": pickled_by_python2({b"num_cases_per_batch": 10_000, b"label_names": names})}
    for key, (pixels, labels) in zip(keys, batches, strict=True):
        rows = pixels.reshape(len(pixels), -1)
        files[key] = pickled_by_python2({b"batch_label": key.encode(), b"labels": labels, b"data": rows})
    return {f"cifar-10-batches-py/{name}": data for name, data in files.items()}


def write_parquet(
    path: Path,
    images: Sequence[bytes | None],
    labels: Sequence[Any] | None,
    *,
    classes: Sequence[str] | None = None,
    column: str = "image",
    rows_per_group: int = 4,
    **more: Any,
) -> str:
    """With what `datasets` writes of the columns into the schema, unless `classes` is None."""
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    columns = {column: pa.array([{"bytes": data, "path": f"{n}.png"} for n, data in enumerate(images)], kind)}
    columns |= {name: pa.array(values) for name, values in more.items()}
    features: dict[str, Any] = {column: {"_type": "Image"}}
    if labels is not None:
        columns["label"] = pa.array(labels)
        features["label"] = {"names": classes, "_type": "ClassLabel"}
    table = pa.table(columns)
    if classes is not None:
        table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    pq.write_table(table, path, row_group_size=rows_per_group)
    return str(path)
