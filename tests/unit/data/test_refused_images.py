"""Image collections that cannot be used are refused with every reason at once, and nothing of them is kept."""

import zipfile
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.support.archives import write_parquet
from tests.support.image_sets import folder, parquet, refusal, zipped
from tests.support.pictures import encoded, label_file, of_a_later_version, picture, write_folder, write_zip
from workers.contract.data import BuiltinDataset
from workers.data import import_dataset
from workers.storage.memory import MemoryStore

FASHION = BuiltinDataset(kind="builtin", name="fashion16")
PICTURES = {f"{number:02d}.png": encoded(picture(number)) for number in range(6)}


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


@pytest.mark.parametrize(
    ("names", "problem"),
    [
        (["a", "b" * 256], "has 256 characters; shorten it to 255"),
        (["a", "b\x1b[2J"], r"'b\x1b[2J', has characters that cannot be shown"),
        (["a", "b\x9b2J"], r"'b\x9b2J', has characters that cannot be shown"),
        ([str(number) for number in range(100_001)], "names 100,001 classes; at most 100,000 are taken"),
        ([f"{number:0100}" for number in range(50_000)], "have 5,000,000 characters; shorten them to 4,194,304"),
    ],
)
def test_class_names_are_short_and_can_be_shown(tmp_path: Path, names: list[str], problem: str) -> None:
    labels = [[name, number % 2] for number, name in enumerate(PICTURES)]
    listed = zipped(write_zip(tmp_path / "a.zip", PICTURES | label_file(labels, classes=names)))
    table = write_parquet(tmp_path / "a", list(PICTURES.values()), [0] * len(PICTURES), classes=names)

    assert problem in refusal(listed)
    assert problem in refusal(parquet(table))


def test_class_names_of_folders_likewise(tmp_path: Path) -> None:
    files = {f"{folder}/{name}": data for folder in ("a", "b\n") for name, data in PICTURES.items()}

    assert r"'b\n', has characters that cannot be shown" in refusal(folder(write_folder(tmp_path, files)))


@pytest.mark.parametrize("content", [b"{", b"\xff\xfe\x00", b"[1, 2]"])
def test_a_label_file_that_is_no_json_object_is_refused(tmp_path: Path, content: bytes) -> None:
    message = refusal(folder(write_folder(tmp_path, {**PICTURES, "dataset.json": content})))

    assert "dataset.json" in message


def test_a_label_file_below_the_root_is_not_passed_over(tmp_path: Path) -> None:
    files = PICTURES | label_file([[name, 0] for name in PICTURES])
    path = write_zip(tmp_path / "a.zip", {f"sets/faces/{name}": data for name, data in files.items()})

    said = "sets/faces/dataset.json counts only at the root; bring sets/faces as a set of its own, or remove that file"
    assert refusal(zipped(path)) == f"{path}: {said}"


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
