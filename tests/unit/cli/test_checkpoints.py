"""`cdm checkpoints`: what there is of a training, and how to have it."""

from pathlib import Path

from tests.support.kept import checkpoint
from tests.support.served import Service

EMA = b"averaged" * (1 << 17)  # a mebibyte


def test_checkpoints_are_listed_oldest_first(service: Service) -> None:
    job = service.submit()
    none = service.cdm("checkpoints", job)
    for images_seen in (1600, 160):
        checkpoint(service.store, job, images_seen, ema=EMA)

    listed = service.cdm("checkpoints", "latest")
    document = service.cdm("checkpoints", job, "--json").document

    assert (none.code, none.err.startswith(f"error: {job} has no checkpoint yet: its first comes ")) == (1, True)
    head, first, second, hint = listed.out.splitlines()
    assert head.split() == ["IMAGES", "WRITTEN", "MIB", "WHERE"]
    assert (first.split()[0], second.split()[0], second.split()[-2]) == ("160", "1,600", "1.0")
    assert f"cdm checkpoints {job} --at IMAGES --output FOLDER" in hint
    assert [one["images_seen"] for one in document] == [160, 1600]


def test_a_checkpoint_is_fetched_and_one_that_is_not_there_is_refused(service: Service, tmp_path: Path) -> None:
    job = service.submit()
    checkpoint(service.store, job, 160, ema=EMA)
    checkpoint(service.store, job, 320, ema=EMA)

    shown = service.cdm("checkpoints", job, "--at", "160")
    fetched = service.cdm("checkpoints", job, "--at", "160", "--output", str(tmp_path / "there"))
    newest = service.cdm("checkpoints", job, "-o", str(tmp_path / "newest"), "--json")
    absent = service.cdm("checkpoints", job, "--at", "200")

    assert shown.out.splitlines()[1].split() == ["ema.safetensors", "1.0"]
    assert fetched.out == f"{tmp_path / 'there'} (after 160 images)\n"
    assert (tmp_path / "there/ema.safetensors").read_bytes() == EMA
    assert (newest.document["images_seen"], newest.document["path"]) == (320, str(tmp_path / "newest"))
    assert (absent.code, f"`cdm checkpoints {job}` lists those that are there" in absent.err) == (1, True)
