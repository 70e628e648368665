"""Image collections become one canonical, content-addressed form, or are refused with every reason at once."""

from errno import ENOSPC
from hashlib import sha256
from pathlib import Path
from threading import Barrier

import numpy as np
import pytest
from PIL import Image

from tests.support.image_sets import folder, refusal, zipped
from tests.support.pictures import encoded, imported, label_file, picture, write_folder, write_zip
from workers.contract.data import BuiltinDataset, DatasetManifest
from workers.data import import_dataset, import_images
from workers.data import importer as importer_module
from workers.storage.memory import MemoryStore

FASHION = BuiltinDataset(kind="builtin", name="fashion16")
PICTURES = {f"{number:02d}.png": encoded(picture(number)) for number in range(6)}


def test_the_quick_start_set_comes_with_its_classes_and_its_sigma(tmp_path: Path) -> None:
    found = imported(FASHION, tmp_path)

    assert found.images.shape == (10_000, 1, 16, 16)
    assert found.manifest.num_classes == 10
    assert found.manifest.classes is not None
    assert found.manifest.classes[9] == "Ankle boot"
    assert found.labels is not None
    assert sorted(set(found.labels.tolist())) == list(range(10))
    assert found.manifest.sigma_data == pytest.approx(0.6307, abs=1e-4)
    scaled = found.images.numpy().astype(np.float64) / 127.5 - 1
    assert found.manifest.sigma_data == pytest.approx(scaled.std(), rel=1e-12)


def test_the_same_images_are_the_same_data_set_in_every_format(tmp_path: Path) -> None:
    """Ten thousand real files, a few seconds: also the only test in which many images are decoded at once."""
    store = MemoryStore()
    builtin = import_dataset(FASHION, store)
    with np.load(Path(importer_module.__file__).parent / "builtin" / "fashion16_10k.npz", allow_pickle=False) as arrays:
        pixels, values, classes = arrays["X"][..., 0], arrays["Y"].tolist(), arrays["classes"].tolist()
    names = [f"{number // 1000:05d}/img{number:08d}" for number in range(len(pixels))]
    files = {f"{name}.png": encoded(Image.fromarray(image)) for name, image in zip(names, pixels, strict=True)}
    files |= label_file([[f"{name}.png", value] for name, value in zip(names, values, strict=True)], classes=classes)

    from_zip = import_dataset(zipped(write_zip(tmp_path / "fashion.zip", files), channels=1), store)
    from_folder = import_dataset(folder(write_folder(tmp_path / "fashion", files), channels=1), store)

    assert from_zip == from_folder == builtin
    assert len(store.list("datasets/")) == len(builtin.shards) + len(["labels", "manifest"])


def test_every_difference_makes_another_data_set(tmp_path: Path) -> None:
    labels = [[name, 0] for name in PICTURES]
    other = {**PICTURES, "00.png": encoded(picture(99))}
    variants = [
        PICTURES,
        other,
        dict(list(PICTURES.items())[1:]),
        PICTURES | label_file(labels),
        PICTURES | label_file([*labels[:-1], [labels[-1][0], 1]]),
        PICTURES | label_file(labels, classes=["noise"]),
    ]

    digests = [
        import_dataset(zipped(write_zip(tmp_path / f"{number}.zip", files), **options), MemoryStore()).digest
        for number, files in enumerate(variants)
        for options in ({}, {"channels": 1}, {"resolution": 4})
    ]

    assert len(set(digests)) == len(digests)


def test_images_are_in_the_order_of_their_names(tmp_path: Path) -> None:
    names = ["b/1.png", "a/2.png", "a/10.png", "c.png", "B/1.png"]
    files = {name: encoded(picture(number)) for number, name in enumerate(names)} | label_file(None)

    found = imported(zipped(write_zip(tmp_path / "a.zip", files)), tmp_path / "cache")

    for position, name in enumerate(sorted(names)):
        assert np.array_equal(found.images[position].permute(1, 2, 0), np.asarray(picture(names.index(name))))


def test_the_store_holds_what_the_manifest_says(tmp_path: Path) -> None:
    store = MemoryStore()
    files = PICTURES | label_file([[name, 3] for name in PICTURES])

    manifest = import_dataset(folder(write_folder(tmp_path, files)), store)

    place = f"datasets/{manifest.digest}/"
    assert DatasetManifest.model_validate_json(store.get(f"{place}MANIFEST.json")) == manifest
    assert manifest.labels is not None
    assert store.get(f"{place}labels.i32") == np.full(6, 3, dtype="<i4").tobytes()
    assert manifest.classes == ("0", "1", "2", "3")
    assert [shard.name for shard in manifest.shards] == ["shard-00000.u8"]
    expected = np.stack([np.asarray(picture(number)).transpose(2, 0, 1) for number in range(6)])
    assert store.get(f"{place}shard-00000.u8") == expected.tobytes()
    assert manifest.shards[0].sha256 == sha256(expected.tobytes()).hexdigest()


def test_what_is_there_already_is_not_uploaded_again(tmp_path: Path) -> None:
    class Recording(MemoryStore):
        def __init__(self) -> None:
            super().__init__()
            self.written: list[str] = []

        def put(self, key: str, data: bytes) -> None:
            self.written.append(key.rpartition("/")[2])
            super().put(key, data)

    store = Recording()
    dataset = folder(write_folder(tmp_path, PICTURES))

    first = import_dataset(dataset, store)
    second = import_dataset(dataset, store)

    assert first == second
    assert store.written == ["shard-00000.u8", "MANIFEST.json"]


def test_shards_are_sent_side_by_side(tmp_path: Path) -> None:
    class Meeting(MemoryStore):
        """Takes shards only when as many are sent as there are."""

        def put(self, key: str, data: bytes | memoryview) -> None:
            if key.endswith(".u8"):
                together.wait(10)
            super().put(key, data)

    together = Barrier(3)

    manifest = import_images(folder(write_folder(tmp_path, PICTURES)), Meeting(), shard_bytes=2 * 192).manifest

    assert len(manifest.shards) == 3


def test_a_shard_that_cannot_be_sent_leaves_no_manifest(tmp_path: Path) -> None:
    class Full(MemoryStore):
        def put(self, key: str, data: bytes | memoryview) -> None:
            if key.endswith("shard-00001.u8"):
                raise OSError(ENOSPC, "full")
            super().put(key, data)

    store = Full()
    with pytest.raises(OSError, match="full"):
        import_images(folder(write_folder(tmp_path, PICTURES)), store, shard_bytes=2 * 192)

    assert not [key for key in store.list("") if key.endswith("MANIFEST.json")]


def test_progress_is_told_image_by_image(tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []

    import_dataset(folder(write_folder(tmp_path, PICTURES)), MemoryStore(), on_progress=lambda *now: told.append(now))

    assert told == [(done, 6) for done in range(1, 7)]


def test_an_import_that_is_given_up_halfway_leaves_nothing(tmp_path: Path) -> None:
    def give_up(done: int, total: int) -> None:
        raise KeyboardInterrupt

    store = MemoryStore()
    with pytest.raises(KeyboardInterrupt):
        import_dataset(folder(write_folder(tmp_path, PICTURES)), store, on_progress=give_up)

    assert store.list("") == []


def test_shards_are_cut_at_whole_images_and_the_cut_changes_no_digest(tmp_path: Path) -> None:
    dataset, image_bytes = folder(write_folder(tmp_path, PICTURES)), 3 * 8 * 8
    store = MemoryStore()

    cut = import_images(dataset, store, shard_bytes=4 * image_bytes + 5).manifest
    whole = import_dataset(dataset, MemoryStore())

    assert [shard.num_images for shard in cut.shards] == [4, 2]
    assert [len(store.get(f"datasets/{cut.digest}/{shard.name}")) for shard in cut.shards] == [
        4 * image_bytes,
        2 * image_bytes,
    ]
    assert (cut.digest, cut.sigma_data) == (whole.digest, whole.sigma_data)


def test_several_top_level_folders_are_the_classes(tmp_path: Path) -> None:
    files = {"dogs/a.png": PICTURES["00.png"], "cats/x/b.png": PICTURES["01.png"], "dogs/c.png": PICTURES["02.png"]}

    found = imported(folder(write_folder(tmp_path / "pets", files)), tmp_path / "cache")

    assert found.manifest.classes == ("cats", "dogs")
    assert found.labels is not None
    assert found.labels.tolist() == [0, 1, 1]


@pytest.mark.parametrize("extra", [{}, label_file(None), {"dataset.json": b"{}"}], ids=["none", "null", "missing"])
def test_without_labels_there_are_no_classes(tmp_path: Path, extra: dict[str, bytes]) -> None:
    files = {f"only/{name}": data for name, data in PICTURES.items()} | extra

    found = imported(folder(write_folder(tmp_path / "pictures", files)), tmp_path / "cache")

    assert found.manifest.labels is None
    assert found.manifest.classes is None
    assert found.labels is None


def test_a_label_file_counts_more_than_folders(tmp_path: Path) -> None:
    files = {"a/1.png": PICTURES["00.png"], "b/2.png": PICTURES["01.png"]}

    null = imported(zipped(write_zip(tmp_path / "1.zip", files | label_file(None))), tmp_path / "cache")
    windows = label_file([["b\\2.png", 0], ["a\\1.png", 1]])
    given = imported(zipped(write_zip(tmp_path / "2.zip", files | windows)), tmp_path / "cache")

    assert null.labels is None
    assert given.labels is not None
    assert given.labels.tolist() == [1, 0]


def test_hidden_and_other_files_are_left_alone(tmp_path: Path) -> None:
    others = {
        "__MACOSX/a/._00.png": b"resource fork",
        "a/.DS_Store": b"",
        ".thumbnails/x.png": b"broken",
        "README.md": b"text",
        "b/notes.txt": b"text",
    }
    files = PICTURES | others

    found = imported(folder(write_folder(tmp_path / "pictures", files)), tmp_path / "cache")
    same = imported(zipped(write_zip(tmp_path / "a.zip", files)), tmp_path / "cache")

    assert found.manifest == same.manifest
    assert found.manifest.num_images == 6
    assert found.manifest.classes is None


def test_a_linked_folder_is_followed_and_a_circle_is_refused(tmp_path: Path) -> None:
    write_folder(tmp_path / "elsewhere", PICTURES)
    root = tmp_path / "root"
    root.mkdir()
    (root / "linked").symlink_to(tmp_path / "elsewhere")
    assert import_dataset(folder(root), MemoryStore()).num_images == 6

    (tmp_path / "elsewhere" / "circle").symlink_to(root)

    assert "circle: is a link to a folder that is already part" in refusal(folder(root))
