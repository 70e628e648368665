"""Images are read back as they were imported, whatever happens to the copies on this machine."""

import fcntl
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from errno import ENOSPC, ENOSYS
from pathlib import Path
from threading import Barrier
from unittest.mock import Mock

import numpy as np
import pytest
import torch

from tests.support.pictures import encoded, label_file, picture, write_folder
from workers.contract.data import DatasetManifest, FolderDataset
from workers.data import DatasetError, ImageSet, import_images
from workers.data.images import stored_images, stored_labels
from workers.storage.memory import MemoryStore


class Counting(MemoryStore):
    """Remembers what was read from it. It gives out shards only once as many are asked for as meet at `together`."""

    def __init__(self) -> None:
        super().__init__()
        self.read: list[str] = []
        self.together: Barrier | None = None

    def get(self, key: str) -> bytes:
        self.read.append(key.rpartition("/")[2])
        if self.together and key.endswith(".u8"):
            self.together.wait(10)
        return super().get(key)


@pytest.fixture
def store() -> Counting:
    return Counting()


@pytest.fixture
def manifest(store: Counting, tmp_path: Path) -> Iterator[DatasetManifest]:
    """Eleven images of 192 bytes in shards of four, with labels."""
    files = {f"{number:02d}.png": encoded(picture(number)) for number in range(11)}
    files |= label_file([[name, number % 3] for number, name in enumerate(files)])
    dataset = FolderDataset(kind="folder", path=write_folder(tmp_path / "pictures", files))
    yield import_images(dataset, store, shard_bytes=4 * 192).manifest
    assert not list(tmp_path.rglob("*.writing"))


def test_images_and_labels_come_in_the_order_asked_for(
    store: Counting, manifest: DatasetManifest, tmp_path: Path
) -> None:
    assert [shard.num_images for shard in manifest.shards] == [4, 4, 3]
    image_set = ImageSet.open(manifest.digest, store=store, cache=tmp_path / "cache")
    indices = np.array([10, 0, 3, 4, 4, 8, 7])

    images, labels = image_set.images(indices), image_set.labels(indices)

    assert len(image_set) == 11
    assert image_set.manifest == manifest
    assert images.dtype == torch.uint8
    expected = np.stack([np.asarray(picture(int(index))) for index in indices])
    assert np.array_equal(images.permute(0, 2, 3, 1), expected)
    assert labels is not None
    assert labels.dtype == torch.int64
    assert labels.tolist() == [index % 3 for index in indices]


def test_a_few_come_straight_from_the_store(store: Counting, manifest: DatasetManifest, tmp_path: Path) -> None:
    image_set = ImageSet.open(manifest.digest, store=store, cache=tmp_path / "cache")
    indices = np.array([10, 0, 3, 4, 4, 8, 7])

    images, labels = stored_images(manifest, indices, store), stored_labels(manifest, store)

    assert torch.equal(images, image_set.images(indices))
    assert labels is not None
    assert labels.tolist() == [index % 3 for index in range(11)]


def test_a_batch_belongs_to_its_reader(store: Counting, manifest: DatasetManifest, tmp_path: Path) -> None:
    image_set = ImageSet.open(manifest.digest, store=store, cache=tmp_path / "cache")
    before = image_set.images(np.array([1, 2]))

    image_set.images(np.array([1, 2])).zero_()

    assert torch.equal(image_set.images(np.array([1, 2])), before)
    assert image_set.images(np.array([], dtype=np.int64)).shape == (0, 3, 8, 8)


@pytest.mark.parametrize("index", [-1, 11])
def test_an_image_that_is_not_there_is_an_index_error(
    store: Counting, manifest: DatasetManifest, tmp_path: Path, index: int
) -> None:
    image_set = ImageSet.open(manifest.digest, store=store, cache=tmp_path / "cache")

    with pytest.raises(IndexError, match="0 to 10"):
        image_set.images(np.array([0, index]))
    with pytest.raises(IndexError, match="0 to 10"):
        image_set.labels(np.array([index]))


def test_shards_are_downloaded_once(store: Counting, manifest: DatasetManifest, tmp_path: Path) -> None:
    store.read.clear()

    for _ in range(3):
        ImageSet.open(manifest.digest, store=store, cache=tmp_path / "cache")

    assert sorted(store.read) == ["MANIFEST.json"] * 3 + ["labels.i32"] + [shard.name for shard in manifest.shards]


def test_of_many_readers_at_once_one_downloads(store: Counting, manifest: DatasetManifest, tmp_path: Path) -> None:
    """Threads stand for processes: each opens the lock by itself, and that is what the lock tells apart."""
    store.read.clear()
    start = Barrier(8)

    def read(_: int) -> bytes:
        start.wait()
        image_set = ImageSet.open(manifest.digest, store=store, cache=tmp_path / "cache")
        return image_set.images(np.arange(11)).numpy().tobytes()

    with ThreadPoolExecutor(8) as pool:
        results = set(pool.map(read, range(8)))

    assert len(results) == 1
    assert [store.read.count(shard.name) for shard in manifest.shards] == [1, 1, 1]


@pytest.mark.parametrize("failure", [None, OSError(ENOSYS, "no locks")], ids=["lock of nobody else", "no locks"])
def test_readers_without_a_lock_in_common_may_all_download(
    store: Counting,
    manifest: DatasetManifest,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    failure: OSError | None,
) -> None:
    """As on a file system that nodes share, and that has no locks or one for each node."""
    monkeypatch.setattr(fcntl, "flock", Mock(side_effect=failure))
    store.together = Barrier(8 * len(manifest.shards))

    def read(_: int) -> bytes:
        image_set = ImageSet.open(manifest.digest, store=store, cache=tmp_path / "cache")
        return image_set.images(np.arange(11)).numpy().tobytes()

    with ThreadPoolExecutor(8) as pool:
        results = set(pool.map(read, range(8)))

    assert len(results) == 1


def test_shards_come_side_by_side(store: Counting, manifest: DatasetManifest, tmp_path: Path) -> None:
    store.together = Barrier(len(manifest.shards))

    assert len(ImageSet.open(manifest.digest, store=store, cache=tmp_path / "cache")) == 11


@pytest.mark.parametrize("damage", [b"", b"short", bytes(4 * 192), bytes(5000)])
def test_a_spoilt_copy_is_fetched_again(
    store: Counting, manifest: DatasetManifest, tmp_path: Path, damage: bytes
) -> None:
    good = ImageSet.open(manifest.digest, store=store, cache=tmp_path / "cache").images(np.arange(11))
    (tmp_path / "cache" / manifest.digest / "shard-00001.u8").write_bytes(damage)
    store.read.clear()

    again = ImageSet.open(manifest.digest, store=store, cache=tmp_path / "cache")

    assert torch.equal(again.images(np.arange(11)), good)
    assert sorted(store.read) == ["MANIFEST.json", "shard-00001.u8"]


def test_a_download_that_was_interrupted_is_begun_again(
    store: Counting, manifest: DatasetManifest, tmp_path: Path
) -> None:
    folder = tmp_path / "cache" / manifest.digest
    folder.mkdir(parents=True)
    half = folder / "shard-00000.writing"
    half.write_bytes(b"half")
    os.utime(half, (0, 0))  # else it might be of somebody who is still at it

    assert len(ImageSet.open(manifest.digest, store=store, cache=tmp_path / "cache").images(np.arange(11))) == 11


def test_a_reader_keeps_its_images_while_another_mends_the_copy(
    store: Counting, manifest: DatasetManifest, tmp_path: Path
) -> None:
    shard = tmp_path / "cache" / manifest.digest / "shard-00000.u8"
    first = ImageSet.open(manifest.digest, store=store, cache=tmp_path / "cache")
    good = first.images(np.arange(4))
    shard.write_bytes(bytes(4 * 192))

    second = ImageSet.open(manifest.digest, store=store, cache=tmp_path / "cache")

    assert torch.equal(second.images(np.arange(4)), good)
    assert first.images(np.arange(4)).shape == good.shape


def test_a_full_disk_is_named(
    store: Counting, manifest: DatasetManifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Path, "write_bytes", Mock(side_effect=OSError(ENOSPC, "full")))

    with pytest.raises(DatasetError, match=rf"no room for it in {tmp_path}/cache of the worker; .* let CDM_CACHE be"):
        ImageSet.open(manifest.digest, store=store, cache=tmp_path / "cache")


def test_an_unknown_data_set_is_refused_by_its_digest(store: Counting, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=f"no data set {'0' * 64} in the store; import it first"):
        ImageSet.open("0" * 64, store=store, cache=tmp_path)


def test_a_shard_that_is_spoilt_or_missing_in_the_store_is_refused(
    store: Counting, manifest: DatasetManifest, tmp_path: Path
) -> None:
    key = f"datasets/{manifest.digest}/shard-00002.u8"

    store.put(key, b"something else")
    with pytest.raises(DatasetError, match=f"{key} is not what was imported; delete .* and import the data set again"):
        ImageSet.open(manifest.digest, store=store, cache=tmp_path / "cache")

    store.delete(key)
    with pytest.raises(DatasetError, match=f"{key} is missing in the store"):
        ImageSet.open(manifest.digest, store=store, cache=tmp_path / "cache")
