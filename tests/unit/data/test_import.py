"""Image collections become one canonical, content-addressed form, or are refused with every reason at once."""

import zipfile
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.support.pictures import (
    encoded,
    imported,
    label_file,
    of_a_later_version,
    picture,
    write_folder,
    write_zip,
)
from workers.contract.data import BuiltinDataset, DatasetManifest, FolderDataset, ZipDataset
from workers.data import DatasetError, import_dataset
from workers.data import importer as importer_module
from workers.storage.memory import MemoryStore

FASHION = BuiltinDataset(kind="builtin", name="fashion16")
PICTURES = {f"{number:02d}.png": encoded(picture(number)) for number in range(6)}


def folder(path: Path | str, **options: Any) -> FolderDataset:
    return FolderDataset(kind="folder", path=str(path), **options)


def zipped(path: Path | str, **options: Any) -> ZipDataset:
    return ZipDataset(kind="zip", path=str(path), **options)


def refusal(dataset: FolderDataset | ZipDataset) -> str:
    """Why a data set is refused; nothing may have reached the store."""
    store = MemoryStore()
    with pytest.raises(DatasetError) as caught:
        import_dataset(dataset, store)
    assert store.list("") == []
    return str(caught.value)


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

    cut = import_dataset(dataset, store, shard_bytes=4 * image_bytes + 5)
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


def test_every_unusable_image_is_named_with_the_mend(tmp_path: Path) -> None:
    bad = {
        "cut.png": PICTURES["00.png"][:100],
        "oblong.png": encoded(picture(1, size=(8, 12))),
        "text.jpg": b"hello",
    }

    message = refusal(folder(write_folder(tmp_path, PICTURES | bad)))

    headline, *lines = message.split("\n")
    assert headline == (
        f"{tmp_path}: images that cannot be used: 3; mend or remove the broken files; "
        "or set dataset.resolution to centre-crop and resize all images alike"
    )
    assert [line.split()[0] for line in lines] == ["'cut.png'", "'oblong.png'", "'text.jpg'"]
    assert "is 8 x 12 pixels, not square" in lines[1]


def test_of_many_unusable_images_the_first_twenty_are_shown_and_all_are_counted(tmp_path: Path) -> None:
    bad = {f"bad/{number:03d}.png": b"" for number in range(57)}

    lines = refusal(folder(write_folder(tmp_path, PICTURES | bad), resolution=8)).split("\n")

    assert "cannot be used: 57" in lines[0]
    assert len(lines) == 1 + 20 + 1
    assert lines[1].strip() == "'bad/000.png' is empty"
    assert lines[-1].strip() == "and 37 more"


def test_images_of_another_size_than_most_are_named_even_if_they_come_first(tmp_path: Path) -> None:
    odd = {"00.png": encoded(picture(1, size=(16, 16)))}
    path = write_folder(tmp_path, PICTURES | odd)

    message = refusal(folder(path))

    assert "'00.png' is 16 x 16 pixels, most are 8 x 8" in message
    assert "set dataset.resolution" in message
    assert import_dataset(folder(path, resolution=8), MemoryStore()).num_images == 6


def test_images_of_one_colour_are_refused(tmp_path: Path) -> None:
    files = {"a.png": encoded(Image.new("L", (8, 8), 7)), "b.png": encoded(Image.new("L", (8, 8), 7))}

    assert "nothing to learn" in refusal(folder(write_folder(tmp_path, files)))


@pytest.mark.parametrize(
    ("labels", "problems"),
    [
        ([["00.png", 0]], [f"'{number:02d}.png' has no label" for number in range(1, 6)]),
        ([[name, 0] for name in [*PICTURES, "gone.png"]], ["'gone.png' has a label in dataset.json but is not there"]),
        ([[name, -1 if name == "03.png" else 0] for name in PICTURES], ["'03.png' has the label -1"]),
        ([[name, "cat" if name == "03.png" else 0] for name in PICTURES], ["'03.png' has the label 'cat'"]),
        ([[name, None if name == "03.png" else 0] for name in PICTURES], ["'03.png' has the label None"]),
        ([[name, name == "03.png"] for name in PICTURES][3:4], ["'03.png' has the label True"]),
        ([[name, 0.5] for name in PICTURES], ["'00.png' has the label 0.5"]),
        ([[name, [0.1, 0.9]] for name in PICTURES], ["'00.png' has the label [0.1, 0.9]"]),
        ([[name, 10**9] for name in PICTURES], ["'00.png' has the label 1000000000"]),
        ([[name, 0] for name in PICTURES] + [["00.png", 1]], ["'00.png' has two labels"]),
        (["00.png"], ["dataset.json lists '00.png' instead of [name, number]"]),
        ({"00.png": 0}, ['"labels" in dataset.json must be a list']),
    ],
)
def test_images_with_wrong_labels_are_named(tmp_path: Path, labels: Any, problems: list[str]) -> None:
    message = refusal(zipped(write_zip(tmp_path / "a.zip", PICTURES | label_file(labels))))

    for problem in problems:
        assert problem in message


@pytest.mark.parametrize("classes", [["a"], ["a", "a"], "ab", [1, 2]])
def test_class_names_must_be_different_and_enough(tmp_path: Path, classes: Any) -> None:
    labels = [[name, number % 2] for number, name in enumerate(PICTURES)]

    message = refusal(folder(write_folder(tmp_path, PICTURES | label_file(labels, classes=classes))))

    assert '"classes" in dataset.json must be 2 or more different names' in message


@pytest.mark.parametrize("content", [b"{", b"\xff\xfe\x00", b"[1, 2]"])
def test_a_label_file_that_is_no_json_object_is_refused(tmp_path: Path, content: bytes) -> None:
    message = refusal(folder(write_folder(tmp_path, {**PICTURES, "dataset.json": content})))

    assert "dataset.json" in message


def test_images_beside_class_folders_are_named(tmp_path: Path) -> None:
    files = {"a/1.png": PICTURES["00.png"], "b/2.png": PICTURES["01.png"], "stray.png": PICTURES["02.png"]}

    message = refusal(folder(write_folder(tmp_path, files)))

    assert "'stray.png' lies beside the class folders" in message
    assert "put each image into a class folder" in message


def test_a_path_with_nothing_or_the_wrong_thing_is_explained(tmp_path: Path) -> None:
    archive, text = write_zip(tmp_path / "a.zip", PICTURES), tmp_path / "text.zip"
    text.write_text("no archive")
    (tmp_path / "empty").mkdir()
    nothing = write_folder(tmp_path / "papers", {"a.pdf": b"", "b.txt": b"", ".c.png": b""})

    assert "no such folder where the workers run" in refusal(folder(tmp_path / "nowhere"))
    assert "no such file where the workers run" in refusal(zipped(tmp_path / "nowhere.zip"))
    assert 'use "kind": "zip"' in refusal(folder(archive))
    assert 'use "kind": "folder"' in refusal(zipped(tmp_path / "empty"))
    assert "cannot be read as a ZIP" in refusal(zipped(text))
    assert "no images in it (0 other files)" in refusal(folder(tmp_path / "empty"))
    assert "no images in it (2 other files)" in refusal(folder(nothing))
    assert "no images in it (1 other files)" in refusal(zipped(write_zip(tmp_path / "b.zip", {"a.txt": b""})))


def test_a_truncated_archive_is_refused(tmp_path: Path) -> None:
    path = Path(write_zip(tmp_path / "a.zip", PICTURES))
    path.write_bytes(path.read_bytes()[:-30])

    assert "cannot be read as a ZIP" in refusal(zipped(path))


def test_an_archive_of_a_version_to_come_is_refused(tmp_path: Path) -> None:
    path = of_a_later_version(Path(write_zip(tmp_path / "a.zip", PICTURES)))

    assert "cannot be read as a ZIP: zip file version" in refusal(zipped(path))


def test_a_file_that_rotted_in_its_archive_is_named(tmp_path: Path) -> None:
    path = Path(write_zip(tmp_path / "a.zip", PICTURES | {"photo.bmp": encoded(picture(7), "bmp")}))
    with zipfile.ZipFile(path) as archive:
        offset = archive.getinfo("photo.bmp").header_offset
    data = bytearray(path.read_bytes())
    data[offset + 150] ^= 1  # a pixel: only the checksum of the archive can tell
    path.write_bytes(data)

    assert "'photo.bmp' cannot be unpacked: Bad CRC-32" in refusal(zipped(path))


def test_a_file_that_unpacks_to_a_huge_one_is_named_before_it_does(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        with archive.open("zeros.png", "w") as member:
            for _ in range(257):
                member.write(bytes(1 << 20))
        archive.writestr("fine.png", PICTURES["00.png"])

    assert "'zeros.png' is larger than 256 MiB" in refusal(zipped(path))
