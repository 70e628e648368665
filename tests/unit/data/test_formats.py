"""Every format that people bring comes to the same images; what is wrong with one is told before anything is kept."""

import pickle
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from tests.support.archives import cifar10_files, pickled_by_python2, write_parquet, write_tar
from tests.support.image_sets import (
    CIFAR,
    CIFAR_BATCHES,
    CLASSES,
    COUNT,
    IMAGES,
    LABELS,
    PIXELS,
    PNGS,
    TEN,
    cifar,
    numpy_archive,
    of_cifar,
    parquet,
    refusal,
    webdataset,
)
from tests.support.pictures import Imported, encoded, imported, label_file, picture, write_folder, write_zip
from workers.contract.data import (
    Dataset,
    ZipDataset,
)
from workers.data.buckets import bucket_shards

BY_THEIR_TOOLS = Path(__file__).parents[2] / "data/by_their_tools"


def reference(folder: Path, classes: list[str] | None = CLASSES) -> Imported:
    labels = [[name, label] for name, label in zip(PNGS, LABELS, strict=True)]
    named = {"classes": classes} if classes else {}
    archive = write_zip(folder / "reference.zip", PNGS | label_file(labels, **named))
    return imported(ZipDataset(kind="zip", path=archive), folder / "reference")


def without_labels(folder: Path) -> Imported:
    return imported(ZipDataset(kind="zip", path=write_zip(folder / "plain.zip", PNGS)), folder / "plain")


def test_the_same_images_are_the_same_data_set_whoever_wrote_them(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "a.npz", X=PIXELS, Y=np.array(LABELS), classes=np.array(CLASSES))
    write_parquet(tmp_path / "a.parquet", list(PNGS.values()), LABELS, classes=CLASSES)

    found = [imported(each, tmp_path) for each in (numpy_archive(tmp_path / "a.npz"), parquet(tmp_path / "a.parquet"))]

    assert [each.manifest for each in found] == [reference(tmp_path).manifest] * 2


@pytest.mark.parametrize(
    ("written", "classes"),
    [
        (parquet(BY_THEIR_TOOLS / "datasets.parquet"), CLASSES),
        (webdataset(BY_THEIR_TOOLS / "webdataset.tar"), None),
        (ZipDataset(kind="zip", path=str(BY_THEIR_TOOLS / "edm.zip")), None),
    ],
    ids=["Dataset.to_parquet of datasets 5.2", "TarWriter of webdataset 1.0.2", "dataset_tool.py of EDM"],
)
def test_what_their_own_tools_have_written(written: Dataset, classes: list[str] | None, tmp_path: Path) -> None:
    """The same ten pictures, given to these tools and kept as they came out."""
    assert imported(written, tmp_path / "theirs").manifest == reference(tmp_path, classes).manifest


@pytest.mark.parametrize(
    ("written", "classes"), [("datasets.parquet", CLASSES), ("webdataset.tar", None)], ids=["parquet", "webdataset"]
)
def test_of_splits_that_lie_side_by_side_one_can_be_chosen(
    written: str, classes: list[str] | None, tmp_path: Path
) -> None:
    name, suffix = written.split(".")
    make = {"datasets": parquet, "webdataset": webdataset}[name]
    shards = tmp_path / "data"
    shards.mkdir()
    shutil.copy(BY_THEIR_TOOLS / written, shards / f"test-00000-of-00001.{suffix}")
    for number in range(2):
        shutil.copy(BY_THEIR_TOOLS / written, shards / f"train-{number:05d}-of-00002.{suffix}")

    test, train = (imported(make(shards, split=split), tmp_path / split) for split in ("test", "train"))

    assert test.manifest == reference(tmp_path, classes).manifest
    assert train.manifest.num_images == 2 * COUNT
    there = bucket_shards(f"file://{shards}/", f".{suffix}", split="train", on_listed=lambda: None)
    assert [name for name, _ in there] == [f"train-{number:05d}-of-00002.{suffix}" for number in range(2)]


def test_labels_of_an_archive_may_have_a_column_of_their_own_as_keras_has_them(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x_train=PIXELS, y_train=np.array(LABELS)[:, None])

    assert imported(numpy_archive(tmp_path / "a.npz"), tmp_path).manifest == reference(tmp_path, classes=None).manifest


def test_a_column_of_labels_can_be_chosen(tmp_path: Path) -> None:
    write_parquet(tmp_path / "a.parquet", list(PNGS.values()), LABELS, classes=CLASSES, coarse=[0] * COUNT)
    write_parquet(tmp_path / "b.parquet", list(PNGS.values()), None, kind=LABELS)
    described, plain = (tmp_path / "a.parquet", "label"), (tmp_path / "b.parquet", "kind")

    found = [imported(parquet(path, label_column=column), tmp_path) for path, column in (described, plain)]

    assert found[0].manifest == reference(tmp_path).manifest
    assert found[1].manifest == reference(tmp_path, classes=None).manifest


def test_images_in_the_tar_files_of_a_webdataset_have_the_labels_beside_them(tmp_path: Path) -> None:
    """Packed by tar itself, as its documentation does it."""
    shards, numbers = tmp_path / "shards", range(COUNT)
    shards.mkdir()
    for shard, part in enumerate((numbers[:6], numbers[6:])):
        files = {f"{number:03d}.png": PNGS[f"{number:03d}.png"] for number in part}
        files |= {f"{number:03d}.cls": f"{LABELS[number]}\n".encode() for number in part}
        write_folder(tmp_path / str(shard), files)
        command = ["tar", "-cf", shards / f"train-{shard}.tar", "-C", tmp_path / str(shard), "."]
        subprocess.run(command, check=True)

    assert imported(webdataset(shards), tmp_path).manifest == reference(tmp_path, classes=None).manifest


def test_labels_of_a_webdataset_may_lie_in_json(tmp_path: Path) -> None:
    files = PNGS | {f"{n:03d}.json": b'{"label": %d, "caption": "x"}' % label for n, label in enumerate(LABELS)}

    found = imported(webdataset(write_tar(tmp_path / "a.tar", files)), tmp_path)

    assert found.manifest == reference(tmp_path, classes=None).manifest


def test_json_beside_images_may_be_of_other_things(tmp_path: Path) -> None:
    """As img2dataset writes it, without labels or beside them."""
    captions = {f"{number:03d}.json": b'{"caption": "x"}' for number in range(COUNT)}
    labels = {f"{number:03d}.cls": b"%d" % label for number, label in enumerate(LABELS)}

    plain = imported(webdataset(write_tar(tmp_path / "a.tar", PNGS | captions)), tmp_path)
    labelled = imported(webdataset(write_tar(tmp_path / "b.tar", PNGS | labels | captions)), tmp_path)

    assert plain.manifest == without_labels(tmp_path).manifest
    assert labelled.manifest == reference(tmp_path, classes=None).manifest


def test_without_labels_there_are_no_classes_in_any_format(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", PIXELS)
    datasets = [
        numpy_archive(tmp_path / "a.npz"),
        parquet(write_parquet(tmp_path / "a.parquet", list(PNGS.values()), None, classes=[])),
        parquet(write_parquet(tmp_path / "b.parquet", list(PNGS.values()), LABELS)),  # nothing says what they are
        webdataset(write_tar(tmp_path / "a.tar", PNGS)),
    ]

    digests = {imported(each, tmp_path).manifest.digest for each in datasets}

    assert digests == {
        imported(ZipDataset(kind="zip", path=write_zip(tmp_path / "a.zip", PNGS)), tmp_path).manifest.digest
    }


@pytest.mark.parametrize(("split", "part"), [("train", CIFAR_BATCHES[:5]), ("test", CIFAR_BATCHES[5:])])
def test_cifar_10_comes_with_its_classes(tmp_path: Path, split: str, part: list[tuple[np.ndarray, list[int]]]) -> None:
    archive = write_tar(tmp_path / "cifar-10-python.tar.gz", cifar10_files(CIFAR_BATCHES, TEN), mode="w:gz")

    found = imported(cifar(archive, split=split), tmp_path / "cache")

    assert np.array_equal(found.images.numpy(), np.concatenate([pixels for pixels, _ in part]))
    assert found.labels is not None
    assert found.labels.tolist() == [label for _, labels in part for label in labels]
    assert found.manifest.classes == tuple(name.decode() for name in TEN)


@pytest.mark.parametrize("pickled", [pickled_by_python2, lambda value: pickle.dumps(value, protocol=2)])
def test_cifar_100_has_the_fine_labels_whoever_pickled_it(tmp_path: Path, pickled: Any) -> None:
    rows, names = CIFAR.reshape(len(CIFAR), -1), [f"class {number}".encode() for number in range(100)]
    train = {b"data": rows, b"fine_labels": list(range(80, 92)), b"coarse_labels": [0] * 12}
    meta = {b"fine_label_names": names, b"coarse_label_names": [b"all"]}
    files = {"cifar-100-python/train": pickled(train), "cifar-100-python/meta": pickled(meta)}

    found = imported(cifar(write_tar(tmp_path / "cifar-100-python.tar.gz", files, mode="w:gz")), tmp_path / "cache")

    assert np.array_equal(found.images.numpy(), CIFAR)
    assert found.labels is not None
    assert found.labels.tolist() == list(range(80, 92))
    assert found.manifest.num_classes == 100


def test_all_formats_are_cropped_resized_and_made_grey_as_files_are(tmp_path: Path) -> None:
    wide = [picture(number, size=(12, 9)) for number in range(COUNT)]
    pngs = {f"{number:03d}.png": encoded(image) for number, image in enumerate(wide)}
    np.savez(tmp_path / "a.npz", images=np.stack([np.asarray(image) for image in wide]))
    fit: dict[str, Any] = {"resolution": 4, "channels": 1}
    datasets: list[Dataset] = [
        ZipDataset(kind="zip", path=write_zip(tmp_path / "a.zip", pngs), **fit),
        numpy_archive(tmp_path / "a.npz", **fit),
        parquet(write_parquet(tmp_path / "a.parquet", list(pngs.values()), None), **fit),
        webdataset(write_tar(tmp_path / "a.tar", pngs), **fit),
    ]

    manifests = [imported(each, tmp_path).manifest for each in datasets]

    assert len({manifest.digest for manifest in manifests}) == 1
    assert (manifests[0].resolution, manifests[0].channels) == (4, 1)


def test_grey_arrays_may_have_a_channel_or_none_and_alpha_becomes_white(tmp_path: Path) -> None:
    grey = PIXELS[..., 0]
    clear = np.concatenate([PIXELS, np.zeros_like(PIXELS[..., :1])], axis=3)
    clear[0, 0, 0] = (1, 2, 3, 255)
    np.savez(tmp_path / "two.npz", grey)
    np.savez(tmp_path / "three.npz", grey[..., None])
    np.savez(tmp_path / "four.npz", clear)

    two, three = (imported(numpy_archive(tmp_path / f"{name}.npz", channels=1), tmp_path) for name in ("two", "three"))
    four = imported(numpy_archive(tmp_path / "four.npz"), tmp_path)

    assert two.manifest == three.manifest
    assert np.array_equal(two.images[:, 0].numpy(), grey)
    assert four.images[0, :, 0, 0].tolist() == [1, 2, 3]
    assert four.images[0, :, 0, 1].tolist() == [255, 255, 255]


def test_parquet_files_of_a_folder_are_one_table(tmp_path: Path) -> None:
    folder, pngs = tmp_path / "data", list(PNGS.values())
    folder.mkdir()
    for shard, part in enumerate((slice(0, 7), slice(7, 10))):
        write_parquet(folder / f"train-{shard}.parquet", pngs[part], LABELS[part], classes=CLASSES, rows_per_group=2)

    assert imported(parquet(folder), tmp_path).manifest == reference(tmp_path).manifest


def test_a_column_or_an_array_can_be_chosen(tmp_path: Path) -> None:
    masks = [encoded(picture(number + 100)) for number in range(COUNT)]
    write_parquet(tmp_path / "a.parquet", list(PNGS.values()), None, column="photo", mask=masks)
    np.savez(tmp_path / "a.npz", photo=PIXELS, mask=PIXELS[::-1])

    ambiguous = [refusal(each) for each in (parquet(tmp_path / "a.parquet"), numpy_archive(tmp_path / "a.npz"))]
    chosen = [parquet(tmp_path / "a.parquet", column="photo"), numpy_archive(tmp_path / "a.npz", images="photo")]

    assert "2 columns of images; say which it is, dataset.column; it has photo" in ambiguous[0]
    assert "say which array the images are, dataset.images; it has photo uint8[10, 8, 8, 3]" in ambiguous[1]
    digests = {imported(each, tmp_path).manifest.digest for each in chosen}
    assert digests == {
        imported(ZipDataset(kind="zip", path=write_zip(tmp_path / "a.zip", PNGS)), tmp_path).manifest.digest
    }


def test_the_oldest_protocol_is_read_too(tmp_path: Path) -> None:
    """As `batches.meta` is published."""
    names = "".join(f"S'{name.decode()}'\na" for name in TEN)
    meta = f"(dp1\nS'label_names'\np2\n(lp3\n{names}sS'num_vis'\nI3072\ns.".encode()

    archive = write_tar(tmp_path / "a.tar.gz", of_cifar(**{"batches.meta": meta}), mode="w:gz")

    assert imported(cifar(archive), tmp_path / "cache").manifest.classes == tuple(name.decode() for name in TEN)


def test_a_column_that_was_dropped_after_its_description_was_written_is_not_missed(tmp_path: Path) -> None:
    table = pq.read_table(write_parquet(tmp_path / "a.parquet", list(PNGS.values()), LABELS, classes=CLASSES))
    pq.write_table(table.drop_columns(["label"]), tmp_path / "a.parquet")

    assert imported(parquet(tmp_path / "a.parquet"), tmp_path).manifest == without_labels(tmp_path).manifest


def test_a_picture_in_an_array_is_the_picture_in_a_file(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", PIXELS)

    found = imported(numpy_archive(tmp_path / "a.npz"), tmp_path)

    assert Image.fromarray(found.images[3].permute(1, 2, 0).numpy()).tobytes() == IMAGES[3].tobytes()
