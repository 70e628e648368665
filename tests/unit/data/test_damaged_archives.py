"""Image archives that are hostile or damaged are refused in words: nothing in them is run, and nothing is written."""

import gc
import os
import pickle
import tarfile
import tracemalloc
import weakref
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter

from tests.support.archives import cifar10_files, pickled_by_python2, write_parquet, write_tar
from tests.support.image_sets import (
    CIFAR,
    CIFAR_BATCHES,
    CLASSES,
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
    zipped,
)
from tests.support.payload import Payload
from tests.support.pictures import write_folder, write_zip
from workers.contract.data import Dataset, FolderDataset
from workers.data import DatasetError, errors, import_dataset, npz
from workers.data.errors import Faults, ImageError
from workers.data.files import tar_files
from workers.storage.memory import MemoryStore


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


def test_a_buffer_that_is_announced_is_refused_before_memory_is_asked_for(tmp_path: Path) -> None:
    announced = b"\x80\x05\x96" + (1 << 32).to_bytes(8, "little") + b"."

    message = refusal(cifar(write_tar(tmp_path / "a.tar.gz", of_cifar(data_batch_2=announced), mode="w:gz")))

    assert "data_batch_2 holds objects by number, frozen sets or buffers" in message


def test_a_text_that_is_named_again_and_again_is_not_copied_each_time(tmp_path: Path) -> None:
    text = b"X" + (1 << 20).to_bytes(4, "little") + b"a" * (1 << 20)
    repeated = b"\x80\x02c_codecs\nencode\nq\x00" + text + b"q\x01](" + b"h\x00h\x01\x85R" * 2 + b"e."

    message = refusal(cifar(write_tar(tmp_path / "a.tar.gz", of_cifar(data_batch_2=repeated), mode="w:gz")))

    assert "data_batch_2 repeats its texts; it was refused" in message


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
        (of_cifar(**{"batches.meta": pickled_by_python2({b"label_names": [b"a", b"b" * 256]})}), "long ones"),
        ({"readme.txt": b"hello"}, "is not cifar-10-python.tar.gz or cifar-100-python.tar.gz"),
    ],
)
def test_a_cifar_archive_that_is_not_whole_is_refused(tmp_path: Path, files: dict[str, bytes], message: str) -> None:
    refused = refusal(cifar(write_tar(tmp_path / "a.tar.gz", files, mode="w:gz")))

    assert message in refused
    assert "download it again" in refused


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """A good file of each format."""
    folder = tmp_path_factory.mktemp("whole")
    np.savez_compressed(folder / "npz", X=PIXELS, Y=np.array(LABELS))
    labelled = PNGS | {f"{number:03d}.cls": b"%d" % label for number, label in enumerate(LABELS)}
    write_tar(folder / "cifar", cifar10_files(CIFAR_BATCHES, TEN), mode="w:gz")
    write_parquet(folder / "parquet", list(PNGS.values()), LABELS, classes=CLASSES)
    write_tar(folder / "webdataset", labelled)
    return {kind: next(folder.glob(f"{kind}*")).read_bytes() for kind in MAKERS}


MAKERS: dict[str, Any] = {"cifar": cifar, "npz": numpy_archive, "parquet": parquet, "webdataset": webdataset}
SAID = {"cifar": "tar.gz file", "npz": "NumPy archive", "parquet": "Parquet", "webdataset": "tar file that is not"}


@pytest.mark.parametrize("kind", MAKERS)
def test_a_file_that_is_not_there_or_is_something_else_is_refused(tmp_path: Path, kind: str) -> None:
    (tmp_path / "text").write_text("not an archive of any kind, whatever it is called\n" * 50)

    assert SAID[kind] in refusal(MAKERS[kind](tmp_path / "text"))
    assert "no such file" in refusal(MAKERS[kind](tmp_path / "missing"))


@pytest.mark.parametrize("kind", MAKERS)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_file_that_is_cut_anywhere_is_refused(
    tmp_path: Path, whole: dict[str, bytes], kind: str, data: st.DataObject
) -> None:
    """A tar file may lack all but the first block of the zeros at its end."""
    content = whole[kind]
    end = len(content.rstrip(b"\0")) // 512 * 512 + 512 if kind == "webdataset" else len(content)
    cut = tmp_path / "cut"
    cut.write_bytes(content[: data.draw(st.integers(0, end - 1))])

    assert refusal(MAKERS[kind](cut))


@pytest.mark.parametrize("kind", MAKERS)
@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_byte_changed_is_refused_in_words_or_loses_no_image(
    tmp_path: Path, whole: dict[str, bytes], kind: str, data: st.DataObject
) -> None:
    """A tar file and Parquet have no checksums, so there pixels may change."""
    content, changed = bytearray(whole[kind]), tmp_path / "changed"
    changed.write_bytes(content)
    before = import_dataset(MAKERS[kind](changed), MemoryStore())
    content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    changed.write_bytes(content)

    try:
        after = import_dataset(MAKERS[kind](changed), MemoryStore())
    except DatasetError:
        return

    assert after.num_images == before.num_images
    if kind in {"cifar", "npz"}:
        assert after.digest == before.digest


def test_members_that_the_directory_of_an_archive_hides_are_missed(tmp_path: Path, whole: dict[str, bytes]) -> None:
    """The labels of a NumPy archive, and images of a ZIP: behind a comment that is not there."""
    with ZipFile(tmp_path / "png.zip", "w") as archive:
        for name, content in PNGS.items():
            archive.writestr(name, content)
    for content, make, listed in (
        (whole["npz"], numpy_archive, "1 of 2 members"),
        ((tmp_path / "png.zip").read_bytes(), zipped, f"1 of {len(PNGS)} members"),
    ):
        hidden, entry = bytearray(content), content.index(b"PK\x01\x02")
        rest = content.index(b"PK\x05\x06") - content.index(b"PK\x01\x02", entry + 1)
        hidden[entry + 32 : entry + 34] = rest.to_bytes(2, "little")
        (tmp_path / "hidden").write_bytes(hidden)

        assert f"its directory is damaged: it lists {listed}" in refusal(make(tmp_path / "hidden"))


@pytest.mark.parametrize("kind", [*MAKERS, "zip"])
def test_a_pipe_is_not_waited_for_and_a_device_not_read_to_its_end(tmp_path: Path, kind: str) -> None:
    os.mkfifo(tmp_path / "pipe")

    for path in (tmp_path / "pipe", "/dev/zero"):
        for digest in (None, "0" * 64):
            dataset = TypeAdapter(Dataset).validate_python({"kind": kind, "path": str(path), "sha256": digest})
            assert refusal(dataset) == f"{path}: is no regular file; name one where the workers run"


@pytest.mark.parametrize(("kind", "suffix"), [("parquet", "parquet"), ("webdataset", "tar")])
def test_nor_among_the_files_of_a_folder(tmp_path: Path, kind: str, suffix: str) -> None:
    os.mkfifo(tmp_path / f"a.{suffix}")

    assert f"a.{suffix}: is no regular file" in refusal(MAKERS[kind](tmp_path))


def test_nor_among_its_images(tmp_path: Path) -> None:
    write_folder(tmp_path, PNGS)
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "zero.png").symlink_to("/dev/zero")

    message = refusal(FolderDataset(kind="folder", path=str(tmp_path)))

    assert "'pipe.png' cannot be read: it is no regular file" in message
    assert "'zero.png' cannot be read: it is no regular file" in message


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
        ({"x": PIXELS, "y": np.array(LABELS) * 1.0}, "y float64[10] could be its labels; save whole numbers from 0"),
        ({"x": PIXELS, "y": np.array(LABELS)[:, None] > 0}, "y bool[10, 1] could be its labels"),
        ({"x": PIXELS, "y": np.eye(3, dtype=int)[LABELS]}, "y int64[10, 3] could be its labels"),
        ({"x": PIXELS, "y": np.array(LABELS), "c": np.array(["a", "a", "b"])}, "names 3 classes, some alike"),
        ({"x": PIXELS, "y": np.array(LABELS), "c": np.array(["a", "b"])}, "too few for label 2"),
        ({"x": PIXELS, "y": np.array(LABELS), "c": np.full(100_001, "a")}, "names 100,001 classes; at most 100,000"),
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


def test_of_a_member_of_an_archive_only_its_name_and_place_are_kept(tmp_path: Path) -> None:
    count = 5000
    path = Path(write_tar(tmp_path / "a.tar", {f"{number:08d}.cls": b"%d" % number for number in range(count)}))
    tracemalloc.start()
    try:
        with tar_files(path, compressed=False) as found:
            kept = tracemalloc.get_traced_memory()[0]
            assert found.read("00004321.cls") == b"4321"
    finally:
        tracemalloc.stop()

    assert kept < 300 * count


def test_a_sparse_file_in_a_tar_file_is_named(tmp_path: Path) -> None:
    archive = write_tar(tmp_path / "a.tar", PNGS)
    with tarfile.open(archive, "a") as members:
        member = tarfile.TarInfo("hollow.png")
        member.type = tarfile.GNUTYPE_SPARSE
        members.addfile(member)

    assert "hollow.png in it is sparse; pack it without --sparse" in refusal(webdataset(archive))


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


def test_folders_without_such_files_say_so(tmp_path: Path) -> None:
    assert "no .parquet file in it" in refusal(parquet(tmp_path))
    assert "no .tar file in it" in refusal(webdataset(tmp_path))


def test_of_images_that_cannot_be_used_only_what_is_said_of_them_is_kept() -> None:
    class Image: ...

    def fault() -> tuple[ImageError, weakref.ref[Image]]:
        image = Image()
        try:
            raise ImageError("is broken")
        except ImageError as error:
            return error, weakref.ref(image)

    faults = Faults("a.parquet")
    error, image = fault()
    faults.add("1", error)
    del error
    gc.collect()

    assert image() is None
    assert faults.reasons(1) == {"1": "is broken"}


def test_after_a_million_nobody_looks_for_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(errors, "_MOST", 2)
    faults = Faults("a.parquet")
    for number in range(2):
        faults.add(str(number), ImageError("is broken"))

    with pytest.raises(DatasetError, match=r"a.parquet: images that cannot be used: 3;"):
        faults.add("2", ImageError("is broken"))
