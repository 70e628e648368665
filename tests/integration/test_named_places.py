"""Files of buckets that documents name: whoever may not read one learns which, and nothing is tried again for it."""

from pathlib import Path

import numpy as np
import pytest
from botocore.exceptions import ClientError

from tests.support.command import Answer, Command
from tests.support.edm_snapshots import write_snapshot
from tests.support.published_networks import published
from tests.support.seaweed import STRANGER
from workers.contract.data import NpzDataset
from workers.data import DatasetError, import_images
from workers.storage import open_store, read_location
from workers.storage.memory import MemoryStore
from workers.training.weights import read_weights

_MOST_BYTES = 1 << 20


def test_an_object_of_a_bucket_is_imported_and_what_cannot_be_read_is_named(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    np.savez(tmp_path / "noise.npz", X=np.random.default_rng(0).integers(0, 256, (6, 8, 8, 3), dtype=np.uint8))
    open_store(place).put("noise.npz", (tmp_path / "noise.npz").read_bytes())

    imported = import_images(NpzDataset(kind="npz", path=f"{place}/noise.npz"), MemoryStore())

    assert imported.manifest.num_images == 6
    with pytest.raises(DatasetError, match=r"missing\.npz: there is no such object"):
        import_images(NpzDataset(kind="npz", path=f"{place}/missing.npz"), MemoryStore())
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    with pytest.raises(DatasetError, match=r"noise\.npz: the workers may not read it"):
        import_images(NpzDataset(kind="npz", path=f"{place}/noise.npz"), MemoryStore())


def test_a_file_of_a_bucket_is_read_and_what_cannot_be_read_is_named(
    place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_store(place).put("mask.png", b"a mask")

    assert read_location(f"{place}/mask.png", most_bytes=_MOST_BYTES) == b"a mask"
    with pytest.raises(FileNotFoundError, match=rf"there is no {place}/missing\.png where the workers run"):
        read_location(f"{place}/missing.png", most_bytes=_MOST_BYTES)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", STRANGER)
    with pytest.raises(OSError, match=rf"cannot read {place}/mask\.png: access is denied"):
        read_location(f"{place}/mask.png", most_bytes=_MOST_BYTES)


def test_a_key_that_is_being_changed_is_no_fault_of_the_document(place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor is a clock that is wrong for a while; what S3 says of both is tried again."""
    open_store(place).put("mask.png", b"a mask")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "of yesterday")

    with pytest.raises(ClientError, match="SignatureDoesNotMatch"):
        read_location(f"{place}/mask.png", most_bytes=_MOST_BYTES)


def test_a_snapshot_of_a_bucket_is_converted_under_its_own_name(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    network = published("ddpmpp", label_dim=10, augment_dim=9)
    snapshot = write_snapshot(tmp_path / "snapshot.pkl", network, network.tensors())
    open_store(place).put("edm.pkl", snapshot.read_bytes())
    open_store(place).put("other.pkl", b"<html>404</html>")
    output = tmp_path / "edm.safetensors"

    def converted(source: str) -> Answer:
        return Command(monkeypatch, capsys)("convert", source, "-o", str(output), "--force")

    assert converted(f"{place}/edm.pkl").code == 0
    assert read_weights(output)[0].extra == {"source": "edm.pkl"}
    other, missing = converted(f"{place}/other.pkl"), converted(f"{place}/no.pkl")
    assert other.err.startswith(f"error: {place}/other.pkl: is not a snapshot")
    assert missing == Answer(2, "", f"error: {place}/no.pkl: there is no such object\n")


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("http://example.org/edm.pkl", "give a path, https://host/file or s3://bucket/key"),
        ("upload://upl_01ARZ3NDEKTSV4RRFFQ69G5FAV", "give a path, https://host/file or s3://bucket/key"),
        ("https://me:secret@example.org/edm.pkl", "leave the credentials out"),
    ],
)
def test_a_snapshot_that_cannot_be_had_is_refused_with_the_mend(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], source: str, words: str
) -> None:
    answer = Command(monkeypatch, capsys)("convert", source, "-o", str(tmp_path / "edm.safetensors"))

    assert answer.code == 2
    assert words in answer.err
