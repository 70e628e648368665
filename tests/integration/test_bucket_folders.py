"""Images that lie loose in a bucket, and sets of several files there, over a real S3 server."""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.support.archives import write_parquet, write_tar
from tests.support.image_sets import CLASSES, LABELS, PNGS, folder, parquet, refusal, webdataset
from tests.support.pictures import encoded, label_file, picture, write_folder
from tests.support.seaweed import OUTSIDER, STRANGER, seaweed
from workers.contract.data import Dataset
from workers.data import DatasetError, buckets, files, import_images
from workers.storage import open_store
from workers.storage.memory import MemoryStore

# Sorted by code point, by UTF-16, without case, by the last part, or folder by folder: each time another order.
NAMES = [
    *("a/2.png", "a/10.png", "a/10/1.png", "a/deep/down/3.PNG", "a-b/1.png", "B/1.png", "b/1.jpeg"),
    *("a folder/+1%20&.png", "ключ/図 ü.png", "\uff5a/1.png", "\U0001f600/1.png"),
]
OTHERS = {
    "README.md": b"text",
    "a/notes.txt": b"text",
    "a/.DS_Store": b"",
    ".hidden/1.png": b"broken",
    "b/.2.png": b"broken",
    "__MACOSX/a/._2.png": b"resource fork",
}
PICTURES = {name: encoded(picture(number)) for number, name in enumerate(NAMES)}


def put(place: str, content: Mapping[str, bytes]) -> str:
    """As the folder that a document names."""
    store = open_store(place)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(store.put, content.keys(), content.values()))
    return f"{place}/"


def numbered(count: int) -> dict[str, bytes]:
    return {f"{number:05d}.png": encoded(picture(number % 7)) for number in range(count)}


@pytest.mark.parametrize("labels", [{}, label_file([[name, n % 3] for n, name in enumerate(NAMES)]), label_file(None)])
def test_loose_images_of_a_bucket_are_the_set_that_they_are_in_a_folder(
    place: str, tmp_path: Path, labels: dict[str, bytes]
) -> None:
    """What only stands for a folder, as consoles make it, is no file; what begins alike lies elsewhere."""
    content = PICTURES | OTHERS | labels
    write_folder(tmp_path, content)
    (tmp_path / "b/empty").mkdir()
    put(f"{place}-other", {"c/1.png": PICTURES["B/1.png"]})
    put(place, {"": b"", "a/": b"", "b/empty/": b""})
    there = put(place, content)

    loose = import_images(folder(there), MemoryStore())
    local = import_images(folder(tmp_path), MemoryStore())

    assert loose.manifest == local.manifest
    assert loose.manifest.num_images == len(NAMES)
    assert loose.num_ignored_files == local.num_ignored_files == 2
    if not labels:
        assert loose.manifest.classes == tuple(sorted({name.partition("/")[0] for name in NAMES}))


def test_a_folder_may_be_a_whole_bucket(monkeypatch: pytest.MonkeyPatch) -> None:
    with seaweed("loose") as server:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        put("s3://loose", numbered(3))
        put("s3://loose/more", numbered(2))

        whole, part = (import_images(folder(path), MemoryStore()) for path in ("s3://loose/", "s3://loose/more/"))

    assert (whole.manifest.num_images, part.manifest.num_images) == (5, 2)


def tars(root: Path) -> Dataset:
    pngs = list(PNGS.items())
    for shard in range(3):
        with_labels = {}
        for number, (name, data) in list(enumerate(pngs))[shard::3]:
            with_labels |= {name: data, name.replace(".png", ".cls"): str(LABELS[number]).encode()}
        write_tar(root / f"{10**shard}.tar", with_labels)
    return webdataset(root)


def tables(root: Path) -> Dataset:
    pngs = list(PNGS.values())
    for shard, part in enumerate([slice(0, 4), slice(4, 5), slice(5, 10)]):
        write_parquet(root / f"{10**shard}.parquet", pngs[part], LABELS[part], classes=CLASSES)
    return parquet(root)


@pytest.mark.parametrize("written", [tars, tables])
def test_a_set_of_several_files_in_a_bucket_is_what_it_is_in_a_folder(place: str, tmp_path: Path, written: Any) -> None:
    local, heard = written(tmp_path), list[tuple[int, int | None]]()
    shards = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    others = {"README.md": b"text", f"old/{min(shards)}": b"no such file", "": b""}
    there = local.model_copy(update={"path": put(place, shards | others)})

    found = import_images(there, MemoryStore(), on_bytes=lambda *now: heard.append(now))

    assert found.manifest == import_images(local, MemoryStore()).manifest
    assert found.manifest.num_images == len(PNGS)
    total = sum(map(len, shards.values()))
    assert heard[-1] == (total, total)
    assert [done for done, of in heard if of] == sorted(done for done, of in heard if of)


def test_of_splits_in_a_bucket_only_the_one_that_is_chosen_is_fetched(place: str, tmp_path: Path) -> None:
    test, heard = write_tar(tmp_path / "test.tar", PNGS), list[tuple[int, int | None]]()
    shards = {"test-00000-of-00001.tar": Path(test).read_bytes(), "train-00000-of-00001.tar": bytes(1 << 20)}
    there = webdataset(put(place, shards), split="test")

    found = import_images(there, MemoryStore(), on_bytes=lambda *now: heard.append(now))

    assert found.manifest.num_images == len(PNGS)
    assert heard[-1][1] == len(shards["test-00000-of-00001.tar"])


def test_what_is_wrong_with_one_of_several_files_is_said_under_its_place(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_tar(tmp_path / "0.tar", PNGS)
    there = put(place, {"0.tar": (tmp_path / "0.tar").read_bytes(), "1.tar": b"no tar file" * 100})

    assert refusal(webdataset(there)).startswith(f"{place}/1.tar: cannot be read as a tar file")
    assert refusal(parquet(there)) == f"{there}: no .parquet file directly in it"
    monkeypatch.setattr(buckets, "_MAX_NAME_BYTES", 20)
    long = put(f"{place}/long", {"x" * 30 + ".tar": b""})
    assert refusal(webdataset(long)).endswith("x.tar: no file has so long a name; give it another one")


def test_images_that_cannot_be_used_are_named_by_their_keys(place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(buckets, "MAX_FILE_BYTES", 1 << 20)
    monkeypatch.setattr(files, "MAX_FILE_BYTES", 1 << 20)
    broken = {"a/1.png": b"no image", "a/2.png": b"", "b/3.png": bytes((1 << 20) + 1)}
    there = put(place, PICTURES | broken)

    said = refusal(folder(there))

    assert said.startswith(f"{there}: images that cannot be used: 3; ")
    assert "'a/1.png' is not an image of a known format" in said
    assert "'a/2.png' is empty" in said
    assert "'b/3.png' is larger than 1 MiB" in said
    some = import_images(folder(there), MemoryStore(), max_faulty_images=3)
    assert some.manifest.num_images == len(NAMES) - 1  # one of them was a/2.png
    assert some.left_out.reasons(10).keys() == broken.keys()


def test_an_image_that_goes_while_the_others_are_read_is_named(place: str) -> None:
    there, store = put(place, numbered(60)), open_store(place)

    with pytest.raises(DatasetError, match=r"'00059\.png' is not there any more") as refused:
        import_images(folder(there), MemoryStore(), on_progress=lambda *_: store.delete("00059.png"))

    assert "leave the folder as it is while it is imported" in str(refused.value)


def test_who_may_not_read_or_list_learns_what(place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    there = put(place, {"a/1.png": PICTURES["a/2.png"], "0.tar": b""})
    mend = "the workers may not read it; give them the right to, or upload the file"

    monkeypatch.setenv("AWS_ACCESS_KEY_ID", STRANGER)
    assert refusal(folder(there)) == f"{there}a/1.png: {mend}"
    assert refusal(webdataset(there)) == f"{there}0.tar: {mend}"
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", OUTSIDER)
    for dataset in (folder(there), webdataset(there)):
        assert refusal(dataset).startswith(f"{there}: the workers may not list it; give them the right to")


def test_a_folder_that_is_not_there_or_holds_no_image_or_too_much_is_named(
    place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(place, {"only/": b"", "texts/README.md": b"text"})
    many = put(f"{place}/many", numbered(4))
    monkeypatch.setattr(buckets, "_MAX_OBJECTS", 3)

    assert refusal(folder("s3://no-such-bucket/a/")) == "s3://no-such-bucket/a/: there is no such bucket"
    assert refusal(folder(f"{place}/nothing/")).startswith(f"{place}/nothing/: there is nothing in it")
    assert refusal(folder(f"{place}/texts/")).startswith(f"{place}/texts/: no images in it (1 other files)")
    assert refusal(folder(many)).startswith(f"{many}: holds more than 3 objects; name a folder with fewer")


def test_whoever_waits_hears_of_every_thousand_names_and_may_leave_meanwhile(place: str) -> None:
    there, heard = put(place, numbered(1010)), list[tuple[int, int | None]]()

    found = import_images(folder(there), MemoryStore(), on_bytes=lambda *now: heard.append(now)).manifest

    assert (found.num_images, heard) == (1010, [(0, None)] * 2)

    def leave(_done: int, _total: int | None) -> None:
        raise KeyboardInterrupt

    left = MemoryStore()
    with pytest.raises(KeyboardInterrupt):
        import_images(folder(there), left, on_bytes=leave)
    assert left.list("") == []


def test_no_key_leads_out_of_the_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever writes to a bucket names its objects; a server of files might take these names for ways."""
    asked = list[str]()

    class Recording(MemoryStore):
        def part(self, key: str, offset: int, size: int) -> bytes:
            asked.append(key)
            return super().part(key, offset, size)

    store = Recording()
    for key in ("1.png", "../secret.png", "a/../../secret.png", "./2.png", "a/./3.png"):
        store.put(key, PICTURES["a/2.png"])
    monkeypatch.setattr(buckets, "open_store", lambda _: store)

    import_images(folder("s3://bucket/a/"), MemoryStore())

    assert asked == ["1.png"]
