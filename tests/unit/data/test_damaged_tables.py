"""Parquet files that are broken, or made to fill memory: refused in words."""

import json
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.support.archives import write_parquet
from tests.support.image_sets import (
    CLASSES,
    COUNT,
    LABELS,
    PIXELS,
    PNGS,
    numpy_archive,
    parquet,
    refusal,
)
from workers.data import DatasetError, collection, files, import_dataset
from workers.data.buckets import bucket_shards
from workers.data.errors import ImageError
from workers.data.parquet import parquet_collection
from workers.storage.memory import MemoryStore


def test_rows_without_bytes_and_with_broken_ones_are_named(tmp_path: Path) -> None:
    images = [*list(PNGS.values())[:8], None, b"broken"]

    message = refusal(parquet(write_parquet(tmp_path / "a.parquet", images, None)))

    assert "'a/00000008' has no bytes, only a path" in message
    assert "'a/00000009' is not an image of a known format" in message


def test_bytes_that_are_there_twice_are_named(tmp_path: Path) -> None:
    fields = [pa.field("bytes", pa.binary())] * 2
    image = pa.StructArray.from_arrays([pa.array([PNGS["000.png"]])] * 2, fields=fields)
    pq.write_table(pa.table({"image": image}), tmp_path / "a.parquet")

    assert "'a/00000000' has bytes more than once" in refusal(parquet(tmp_path / "a.parquet"))


def test_a_value_that_many_rows_repeat_does_not_fill_memory(tmp_path: Path) -> None:
    """It lies in the file once."""
    path = Path(write_parquet(tmp_path / "a.parquet", [bytes(1 << 20)] * 256, None, rows_per_group=256))
    assert path.stat().st_size < 1 << 20
    held, before = [], pa.total_allocated_bytes()

    with parquet_collection(parquet(path)) as opened:
        for row in range(opened.num_images):
            with pytest.raises(ImageError, match="is not an image"):
                opened.image(row)
            held.append(pa.total_allocated_bytes() - before)

    assert len(held) == 256
    assert max(held) < 20 << 20


def test_a_value_that_is_too_large_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "MAX_FILE_BYTES", 1 << 20)
    images = [*list(PNGS.values())[:9], bytes((1 << 20) + 1)]

    message = refusal(parquet(write_parquet(tmp_path / "a.parquet", images, None)))

    assert message.splitlines()[1:] == ["  'a/00000009' is larger than 1 MiB"]


def test_nothing_is_made_for_each_of_the_millions_of_rows_that_a_small_file_says_it_has(tmp_path: Path) -> None:
    table = pa.table({"image": pa.nulls(1_000_000, pa.binary())})
    pq.write_table(table, tmp_path / "a.parquet")
    assert (tmp_path / "a.parquet").stat().st_size < 10_000

    tracemalloc.start()
    try:
        with parquet_collection(parquet(tmp_path / "a.parquet")) as opened:
            peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert (opened.num_images, opened.name(999_999)) == (1_000_000, "a/00999999")
    assert peak < 1 << 20


def test_there_are_at_most_so_many_images_in_a_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collection, "MAX_IMAGES", 9)
    np.savez(tmp_path / "a.npz", PIXELS)
    write_parquet(tmp_path / "a.parquet", list(PNGS.values()), LABELS, classes=CLASSES)

    for dataset in (numpy_archive(tmp_path / "a.npz"), parquet(tmp_path / "a.parquet")):
        assert refusal(dataset) == f"{dataset.path}: has 10 images; bring it as sets of at most 9"


@pytest.mark.parametrize(("rows", "said"), [(9, "more labels"), (11, "10 labels")])
def test_a_table_that_is_wrong_about_the_number_of_its_rows_is_refused(tmp_path: Path, rows: int, said: str) -> None:
    """A field of its footer, a number times two."""
    path = Path(write_parquet(tmp_path / "a.parquet", list(PNGS.values()), LABELS, classes=CLASSES))
    path.write_bytes(path.read_bytes().replace(b"\x16\x14\x19", bytes([0x16, 2 * rows, 0x19]), 1))
    assert pq.read_metadata(path).num_rows == rows

    assert f"has {rows} rows, and {said} in label; save the table again" in refusal(parquet(path))


def test_a_table_that_rotted_on_its_disk_is_refused(tmp_path: Path) -> None:
    path = Path(write_parquet(tmp_path / "a.parquet", list(PNGS.values()), None))
    content = bytearray(path.read_bytes())
    content[4:200] = bytes(196)
    path.write_bytes(content)

    assert "images that cannot be used" in refusal(parquet(path))


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        ([0] * 9 + [3], "row 9 has the label 3"),
        ([-1] + [0] * 9, "label -1"),
        ([None] + [0] * 9, "row 0 has the label None in label; number the classes from 0"),
        (["ant"] * 10, "the labels in label are string, no whole numbers; number the classes"),
    ],
)
def test_labels_without_a_class_are_named_by_their_row(tmp_path: Path, labels: list[Any], said: str) -> None:
    path = write_parquet(tmp_path / "a.parquet", list(PNGS.values()), labels, classes=CLASSES)

    assert said in refusal(parquet(path))


def test_tables_that_number_their_classes_otherwise_are_not_mixed(tmp_path: Path) -> None:
    for name, classes in (("a", CLASSES), ("b", CLASSES[::-1])):
        write_parquet(tmp_path / f"{name}.parquet", list(PNGS.values()), LABELS, classes=classes)

    assert "b describes its columns, its classes maybe, otherwise than a" in refusal(parquet(tmp_path))


def test_tables_of_other_columns_are_not_mixed(tmp_path: Path) -> None:
    write_parquet(tmp_path / "a.parquet", list(PNGS.values()), LABELS, classes=CLASSES)
    write_parquet(tmp_path / "b.parquet", list(PNGS.values()), None)

    assert "b has other columns than a" in refusal(parquet(tmp_path))


def test_splits_that_lie_side_by_side_are_not_mixed(tmp_path: Path) -> None:
    for split in ("train", "test", "validation"):
        write_parquet(tmp_path / f"{split}-00000-of-00001.parquet", list(PNGS.values()), LABELS, classes=CLASSES)

    said = "holds several splits, test, train, validation; choose one of them, such as split: train"
    assert refusal(parquet(tmp_path)) == f"{tmp_path}: {said}"
    with pytest.raises(DatasetError, match=said):
        bucket_shards(f"file://{tmp_path}/", ".parquet", split=None, on_listed=lambda: None)


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (("train", "test"), "no split 'val' in it; it has test, train"),
        ((), "no split 'val' in it; no file in it is named val-00000-of-00001 or the like"),
    ],
)
def test_a_split_that_is_not_there_is_refused_with_those_that_are(
    tmp_path: Path, names: tuple[str, ...], said: str
) -> None:
    for name in ("plain", *(f"{split}-00000-of-00001" for split in names)):
        write_parquet(tmp_path / f"{name}.parquet", list(PNGS.values()), None)

    assert refusal(parquet(tmp_path, split="val")) == f"{tmp_path}: {said}"
    with pytest.raises(DatasetError, match=said):
        bucket_shards(f"file://{tmp_path}/", ".parquet", split="val", on_listed=lambda: None)


def test_of_a_path_where_nothing_is_no_split_is_missed(tmp_path: Path) -> None:
    nowhere = tmp_path / "nowhere"

    assert refusal(parquet(nowhere, split="train")) == refusal(parquet(nowhere))


def test_files_of_one_split_may_have_a_fingerprint_in_their_names(tmp_path: Path) -> None:
    for name in ("train-00000-of-00002-0a1b2c3d4e5f6789", "train-00001-of-00002-9876f5e4d3c2b1a0"):
        write_parquet(tmp_path / f"{name}.parquet", list(PNGS.values()), LABELS, classes=CLASSES)

    assert import_dataset(parquet(tmp_path), MemoryStore()).num_images == 2 * COUNT


def test_several_columns_of_class_labels_are_not_dropped(tmp_path: Path) -> None:
    path = of_features(tmp_path, fine={"names": CLASSES, "_type": "ClassLabel"}, coarse={"_type": "ClassLabel"})

    assert "2 columns of class labels, fine, coarse; say which it is, dataset.label_column" in refusal(parquet(path))
    assert "no column 'finest' of labels; it has image, fine, coarse" in refusal(parquet(path, label_column="finest"))


def test_lists_of_class_labels_are_not_dropped(tmp_path: Path) -> None:
    path = of_features(tmp_path, tags={"feature": {"names": CLASSES, "_type": "ClassLabel"}, "_type": "Sequence"})

    said = "tags has lists of class labels; save the table with one label for each image"
    assert said in refusal(parquet(path))
    older = of_features(tmp_path, tags=[{"names": CLASSES, "_type": "ClassLabel"}])
    assert said in refusal(parquet(older))


def of_features(folder: Path, **features: Any) -> str:
    """A table that `datasets` describes so, of labels or lists of them."""
    values = {
        name: [[label] if isinstance(each, list) or "feature" in each else label for label in LABELS]
        for name, each in features.items()
    }
    table = pq.read_table(write_parquet(folder / "a.parquet", list(PNGS.values()), None, **values))
    described = {"info": {"features": {"image": {"_type": "Image"}, **features}}}
    pq.write_table(table.replace_schema_metadata({"huggingface": json.dumps(described)}), folder / "a.parquet")
    return str(folder / "a.parquet")
