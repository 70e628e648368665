"""Every format that people bring comes to the same images; what is wrong with one is told before anything is kept."""

import os
import pickle
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from tests.support.archives import cifar10_files, pickled_by_python2, write_parquet, write_tar
from tests.support.pictures import Imported, encoded, imported, label_file, picture, write_folder, write_zip
from workers.contract.data import (
    CifarDataset,
    Dataset,
    NpzDataset,
    ParquetDataset,
    WebDataset,
    ZipDataset,
)
from workers.data import DatasetError, import_dataset, npz
from workers.storage.memory import MemoryStore

COUNT = 10
IMAGES = [picture(number) for number in range(COUNT)]
LABELS = [number % 3 for number in range(COUNT)]
CLASSES = ["ant", "bee", "cat"]
PNGS = {f"{number:03d}.png": encoded(image) for number, image in enumerate(IMAGES)}
PIXELS = np.stack([np.asarray(image) for image in IMAGES])
CIFAR = np.random.default_rng(0).integers(0, 256, (12, 3, 32, 32), dtype=np.uint8)
CIFAR_BATCHES = [(CIFAR[first : first + 2], [first % 10, first % 7]) for first in range(0, 12, 2)]
TEN = [b"airplane", b"automobile", b"bird", b"cat", b"deer", b"dog", b"frog", b"horse", b"ship", b"truck"]


def cifar(path: Path | str, **options: Any) -> CifarDataset:
    return CifarDataset(kind="cifar", path=str(path), **options)


def numpy_archive(path: Path | str, **options: Any) -> NpzDataset:
    return NpzDataset(kind="npz", path=str(path), **options)


def parquet(path: Path | str, **options: Any) -> ParquetDataset:
    return ParquetDataset(kind="parquet", path=str(path), **options)


def webdataset(path: Path | str, **options: Any) -> WebDataset:
    return WebDataset(kind="webdataset", path=str(path), **options)


def refusal(dataset: Dataset) -> str:
    """Why a data set is refused; nothing may have reached the store."""
    store = MemoryStore()
    with pytest.raises(DatasetError) as caught:
        import_dataset(dataset, store)
    assert store.list("") == []
    return str(caught.value)


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


# Hostile and damaged files: refused with the file and the mend, nothing run, nothing written.


class Payload:
    """Touches a file if it is unpickled by somebody who believes it."""

    def __init__(self, target: Path) -> None:
        self._target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self._target),)


def test_nothing_in_a_pickle_of_cifar_is_run(tmp_path: Path) -> None:
    files = cifar10_files(CIFAR_BATCHES, TEN)
    files["cifar-10-batches-py/data_batch_3"] = pickle.dumps(Payload(tmp_path / "owned"), protocol=2)

    message = refusal(cifar(write_tar(tmp_path / "a.tar.gz", files, mode="w:gz")))

    assert "data_batch_3 asks for posix.mkdir" in message
    assert "nothing was run" in message
    assert not (tmp_path / "owned").exists()


@pytest.mark.parametrize(
    "stream",
    [
        b"\x80\x02})" + b"\x85" * 1_000_000 + b"Ns.",  # a key too deep to hash
        b"\x80\x02}N" + b"2\x86" * 60 + b"Ns.",  # a key that takes for ever to hash
        b"\x80\x02}r\xff\xff\xff\x7f.",  # remembered in a place far away
        b"\x80\x02]cnumpy\ndtype\n}b.",  # attributes of what it has named
        b"\x80\x04\x8f()\x90.",  # a set of what is no plain value
    ],
)
def test_a_small_pickle_neither_ends_nor_fills_the_process(tmp_path: Path, stream: bytes) -> None:
    files = of_cifar(data_batch_2=stream)

    assert refusal(cifar(write_tar(tmp_path / "a.tar.gz", files, mode="w:gz")))


def test_the_oldest_protocol_is_read_too(tmp_path: Path) -> None:
    """As `batches.meta` is published."""
    names = "".join(f"S'{name.decode()}'\na" for name in TEN)
    meta = f"(dp1\nS'label_names'\np2\n(lp3\n{names}sS'num_vis'\nI3072\ns.".encode()

    archive = write_tar(tmp_path / "a.tar.gz", of_cifar(**{"batches.meta": meta}), mode="w:gz")

    assert imported(cifar(archive), tmp_path / "cache").manifest.classes == tuple(name.decode() for name in TEN)


def of_cifar(**changes: bytes | None) -> dict[str, bytes]:
    """Its files, some of them replaced or left out."""
    files = cifar10_files(CIFAR_BATCHES, TEN)
    for name, data in changes.items():
        key = f"cifar-10-batches-py/{name}"
        files.pop(key)
        if data is not None:
            files[key] = data
    return files


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (of_cifar(data_batch_2=None), "has no cifar-10-batches-py/data_batch_2"),
        (of_cifar(data_batch_2=b"\x80\x02}q"), "data_batch_2 is damaged"),
        (of_cifar(data_batch_2=pickled_by_python2([1])), "data_batch_2 holds no dictionary"),
        (of_cifar(data_batch_2=pickled_by_python2({b"data": 1})), "not rows of 3072 bytes"),
        (
            of_cifar(data_batch_2=pickled_by_python2({b"data": CIFAR[:2].reshape(2, -1), b"labels": [0, 10]})),
            "labels are not numbers below 10",
        ),
        (
            of_cifar(data_batch_2=pickled_by_python2({b"data": CIFAR[:2].reshape(2, -1), b"labels": [0]})),
            "has 10 images and 9 labels",
        ),
        (
            of_cifar(data_batch_2=pickled_by_python2({b"data": np.asfortranarray(CIFAR[:2].reshape(2, -1))})),
            "not rows of 3072 bytes",
        ),
        (of_cifar(**{"batches.meta": pickled_by_python2({b"label_names": [b"a", b"a"]})}), "some alike"),
        ({"readme.txt": b"hello"}, "is not cifar-10-python.tar.gz or cifar-100-python.tar.gz"),
    ],
)
def test_a_cifar_archive_that_is_not_whole_is_refused(tmp_path: Path, files: dict[str, bytes], message: str) -> None:
    refused = refusal(cifar(write_tar(tmp_path / "a.tar.gz", files, mode="w:gz")))

    assert message in refused
    assert "download it again" in refused


def whole_files(folder: Path) -> dict[str, Path]:
    """A good file of each format."""
    np.savez_compressed(folder / "a.npz", X=PIXELS, Y=np.array(LABELS))
    labelled = PNGS | {f"{number:03d}.cls": b"%d" % label for number, label in enumerate(LABELS)}
    return {
        "cifar": Path(write_tar(folder / "a.tar.gz", cifar10_files(CIFAR_BATCHES, TEN), mode="w:gz")),
        "npz": folder / "a.npz",
        "parquet": Path(write_parquet(folder / "a.parquet", list(PNGS.values()), LABELS, classes=CLASSES)),
        "webdataset": Path(write_tar(folder / "a.tar", labelled)),
    }


MAKERS: dict[str, Any] = {"cifar": cifar, "npz": numpy_archive, "parquet": parquet, "webdataset": webdataset}
SAID = {"cifar": "tar.gz file", "npz": "NumPy archive", "parquet": "Parquet", "webdataset": "tar file that is not"}


@pytest.mark.parametrize("kind", MAKERS)
def test_a_file_that_is_not_there_or_is_something_else_is_refused(tmp_path: Path, kind: str) -> None:
    (tmp_path / "text").write_text("not an archive of any kind, whatever it is called\n" * 50)

    assert SAID[kind] in refusal(MAKERS[kind](tmp_path / "text"))
    assert "no such file" in refusal(MAKERS[kind](tmp_path / "missing"))


@pytest.mark.parametrize("kind", MAKERS)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_file_that_is_cut_anywhere_is_refused(tmp_path: Path, kind: str, data: st.DataObject) -> None:
    whole = whole_files(tmp_path)[kind].read_bytes()
    end = len(whole.rstrip(b"\0")) // 512 * 512 + 1024 if kind == "webdataset" else len(whole)  # then only padding
    cut = tmp_path / "cut"
    cut.write_bytes(whole[: data.draw(st.integers(0, end - 513 if kind == "webdataset" else end - 1))])

    assert refusal(MAKERS[kind](cut))


@pytest.mark.parametrize("kind", MAKERS)
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_byte_changed_is_refused_in_words_or_changes_no_image(
    tmp_path: Path, kind: str, data: st.DataObject
) -> None:
    """A tar file and Parquet have no checksums: there, pixels may change, and images may not get lost."""
    path = whole_files(tmp_path)[kind]
    before = import_dataset(MAKERS[kind](path), MemoryStore())
    content = bytearray(path.read_bytes())
    place = data.draw(st.integers(0, len(content) - 1))
    content[place] ^= data.draw(st.integers(1, 255))
    changed = tmp_path / f"changed{path.suffix}"
    changed.write_bytes(content)

    try:
        after = import_dataset(MAKERS[kind](changed), MemoryStore())
    except DatasetError:
        return

    assert after.num_images == before.num_images
    if kind in {"cifar", "npz"}:
        assert after.digest == before.digest


def test_an_archive_of_other_things_than_arrays_is_refused(tmp_path: Path) -> None:
    assert "000.png in it is no array" in refusal(numpy_archive(write_zip(tmp_path / "a.npz", PNGS)))


def test_an_archive_of_objects_is_refused_unread(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", np.array([Payload(tmp_path / "owned")], dtype=object))

    assert "cannot be read as a NumPy archive" in refusal(numpy_archive(tmp_path / "a.npz"))
    assert not (tmp_path / "owned").exists()


def test_an_archive_that_unpacks_to_more_than_memory_is_refused_before_it_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(npz, "_MAX_BYTES", 1 << 20)
    np.savez_compressed(tmp_path / "a.npz", np.zeros((10, 400, 400, 3), np.uint8))

    assert "unpacks to" in refusal(numpy_archive(tmp_path / "a.npz"))


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({}, "no images in it; it has nothing"),
        ({"x": PIXELS.astype(np.float32)}, "it has x float32[10, 8, 8, 3]; save uint8 images"),
        ({"x": PIXELS.transpose(0, 3, 1, 2)}, "save uint8 images as [images, height, width, channels]"),
        ({"x": PIXELS[:0]}, "no images in it"),
        ({"x": PIXELS, "y": np.array([0] * 9 + [-1])}, "has the label -1"),
        ({"x": PIXELS, "y": np.zeros(10, int), "z": np.zeros(10, int)}, "2 arrays that could be its labels"),
        ({"x": PIXELS, "y": np.array(LABELS), "c": np.array(["a", "a", "b"])}, "names 3 classes, some alike"),
        ({"x": PIXELS, "y": np.array(LABELS), "c": np.array(["a", "b"])}, "too few for label 2"),
    ],
)
def test_arrays_that_cannot_be_images_and_their_labels_are_named(
    tmp_path: Path, arrays: dict[str, np.ndarray], message: str
) -> None:
    np.savez(tmp_path / "a.npz", **arrays)

    assert message in refusal(numpy_archive(tmp_path / "a.npz"))


def test_of_a_webdataset_only_plain_files_are_read_and_nothing_is_written(tmp_path: Path) -> None:
    """Names that lead elsewhere, links, devices."""
    archive = Path(write_tar(tmp_path / "a.tar", {"../../evil.png": PNGS["000.png"], "/etc/b.png": PNGS["001.png"]}))
    with tarfile.open(archive, "a") as members:
        for name, kind in (
            ("link.png", tarfile.SYMTYPE),
            ("hard.png", tarfile.LNKTYPE),
            ("pipe.png", tarfile.FIFOTYPE),
        ):
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, "/etc/passwd"
            members.addfile(member)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}

    manifest = import_dataset(webdataset(archive), MemoryStore())

    assert manifest.num_images == 2
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"a.png": PNGS["000.png"], "a.cls": b"1", "b.png": PNGS["001.png"]}, "'a/b.png' has no label"),
        ({"a.png": PNGS["000.png"], "a.cls": b"cat"}, "'a/a.png' has the label b'cat'"),
        ({"a.png": PNGS["000.png"], "a.json": b'{"label": true}'}, "has the label True"),
        ({"a.png": PNGS["000.png"], "a.cls": b"-1"}, "has the label -1"),
        ({"a.png": PNGS["000.png"][:-30], "b.png": PNGS["001.png"]}, "'a/a.png' cannot be decoded"),
        ({"a.txt": b"no image"}, "no images in it"),
        ({"a.png": PNGS["000.png"], "a.cls": b"[" * 200_000}, "has the label b'[["),
        ({"a.png": PNGS["000.png"], "a.mask.png": PNGS["001.png"]}, "belongs to the same example as 'a/a.mask.png'"),
    ],
)
def test_what_is_wrong_in_a_webdataset_is_named(tmp_path: Path, files: dict[str, bytes], message: str) -> None:
    assert message in refusal(webdataset(write_tar(tmp_path / "a.tar", files)))


def test_rows_without_bytes_and_with_broken_ones_are_named(tmp_path: Path) -> None:
    images = [*list(PNGS.values())[:8], None, b"broken"]

    message = refusal(parquet(write_parquet(tmp_path / "a.parquet", images, None)))

    assert "'a/00000008' has no bytes, only a path" in message
    assert "'a/00000009' is not an image of a known format" in message


def test_a_table_that_rotted_on_its_disk_is_refused(tmp_path: Path) -> None:
    path = Path(write_parquet(tmp_path / "a.parquet", list(PNGS.values()), None))
    content = bytearray(path.read_bytes())
    content[4:200] = bytes(196)
    path.write_bytes(content)

    assert "images that cannot be used" in refusal(parquet(path))


@pytest.mark.parametrize(("labels", "said"), [([0] * 9 + [3], "row 9 has the label 3"), ([-1] + [0] * 9, "label -1")])
def test_labels_without_a_class_are_named_by_their_row(tmp_path: Path, labels: list[int], said: str) -> None:
    path = write_parquet(tmp_path / "a.parquet", list(PNGS.values()), labels, classes=CLASSES)

    assert said in refusal(parquet(path))


def test_tables_that_number_their_classes_otherwise_are_not_mixed(tmp_path: Path) -> None:
    for name, classes in (("a", CLASSES), ("b", CLASSES[::-1])):
        write_parquet(tmp_path / f"{name}.parquet", list(PNGS.values()), LABELS, classes=classes)

    assert "b describes its columns, its classes maybe, otherwise than a" in refusal(parquet(tmp_path))


def test_a_column_that_was_dropped_after_its_description_was_written_is_not_missed(tmp_path: Path) -> None:
    table = pq.read_table(write_parquet(tmp_path / "a.parquet", list(PNGS.values()), LABELS, classes=CLASSES))
    pq.write_table(table.drop_columns(["label"]), tmp_path / "a.parquet")

    assert imported(parquet(tmp_path / "a.parquet"), tmp_path).manifest == without_labels(tmp_path).manifest


def test_tables_of_other_columns_are_not_mixed(tmp_path: Path) -> None:
    write_parquet(tmp_path / "a.parquet", list(PNGS.values()), LABELS, classes=CLASSES)
    write_parquet(tmp_path / "b.parquet", list(PNGS.values()), None)

    assert "b has other columns than a" in refusal(parquet(tmp_path))


def test_folders_without_such_files_say_so(tmp_path: Path) -> None:
    assert "no .parquet file in it" in refusal(parquet(tmp_path))
    assert "no .tar file in it" in refusal(webdataset(tmp_path))


def test_a_picture_in_an_array_is_the_picture_in_a_file(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", PIXELS)

    found = imported(numpy_archive(tmp_path / "a.npz"), tmp_path)

    assert Image.fromarray(found.images[3].permute(1, 2, 0).numpy()).tobytes() == IMAGES[3].tobytes()
