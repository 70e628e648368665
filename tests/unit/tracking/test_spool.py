"""What waits on disk: in order, bounded, whole whatever the disk does, and gone when it was taken."""

import errno
import os
import random
import resource
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.spools import open_files_in, text_spool
from workers.tracking.events import Checkpointed, Ended, Event, Grid, Metrics, decode, encode
from workers.tracking.spool import Spool


def test_items_come_out_as_they_went_in_whether_from_memory_or_disk(tmp_path: Path) -> None:
    spool = text_spool(tmp_path, memory_bytes=50, disk_bytes=10_000)
    items = [f"number {number}" for number in range(100)]

    for item in items:
        spool.put(item)

    assert len(spool) == 100
    assert spool.take(3) == items[:3]
    assert spool.take(1000) == items[3:]
    assert len(spool) == 0


def test_the_file_is_made_when_it_is_needed_and_gone_when_all_was_taken(tmp_path: Path) -> None:
    spool = text_spool(tmp_path / "not there yet", memory_bytes=10, disk_bytes=10_000)
    spool.put("in memory")
    assert open_files_in(tmp_path) == 0

    spool.put("on disk")
    assert open_files_in(tmp_path) == 1
    assert not list((tmp_path / "not there yet").iterdir()), "it has no name, so it goes with the process"

    spool.take(2)
    assert open_files_in(tmp_path) == 0


def test_any_mixture_of_puts_and_takes_keeps_the_order_and_the_bound(tmp_path: Path) -> None:
    chance, model, refused = random.Random(1), deque[str](), 0  # noqa: S311 (no secret)
    spool = text_spool(tmp_path, memory_bytes=64, disk_bytes=1000)

    for number in range(20_000):
        if chance.random() < (0.7 if number // 500 % 2 else 0.4):
            item = f"{number}".ljust(chance.randrange(5, 200), "x")
            try:
                spool.put(item)
                model.append(item)
            except OSError:
                refused += 1
        else:
            for taken in spool.take(chance.randrange(1, 4)):
                assert taken == model.popleft()
        assert len(spool) == len(model)

    assert refused > 100, "it was full now and then"
    spool.clear()


def test_a_batch_is_bounded_in_bytes_and_never_empty(tmp_path: Path) -> None:
    spool = text_spool(tmp_path)
    pictures = [str(number) * (3 << 20) for number in range(5)]
    for picture in pictures:
        spool.put(picture)

    batches = [spool.take(500) for _ in range(3)]

    assert [len(batch) for batch in batches] == [2, 2, 1]
    assert [item for batch in batches for item in batch] == pictures


def test_what_a_full_disk_left_half_written_is_never_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spool = text_spool(tmp_path, memory_bytes=0, disk_bytes=1000)
    for item in ("one", "two", "three"):
        spool.put(item)

    with monkeypatch.context() as full:
        full.setattr(os, "pwrite", half_of(os.pwrite))
        with pytest.raises(OSError, match="could be written"):
            spool.put("lost" * 10)
    spool.put("four")

    assert spool.take(10) == ["one", "two", "three", "four"]


def test_a_limit_of_the_system_is_an_error_and_nothing_else(tmp_path: Path) -> None:
    spool = text_spool(tmp_path, memory_bytes=0)
    spool.put("small")

    with no_file_beyond(100_000), pytest.raises(OSError) as caught:  # noqa: PT011 (its number is looked at)
        fill(spool)

    assert caught.value.errno in {errno.EFBIG, errno.ENOSPC}
    assert len(spool) > 90
    assert spool.take(500)[:2] == ["small", "x" * 1000]
    spool.clear()


@pytest.mark.parametrize(
    "event",
    [
        Metrics(64, 1_800_000_000.123456, {"loss/dsm": 0.1, "loss/consistency": float("inf")}),
        Grid(128, 1_800_000_000.5, b"\x89PNG\r\n\x1a\n\x00binary\n"),
        Checkpointed(128, "jobs/ü\n/checkpoints/"),
        Ended("FINISHED"),
    ],
)
def test_every_event_comes_back_as_it_was(event: Event) -> None:
    assert decode(encode(event)) == event


def fill(spool: Spool[str]) -> None:
    while True:
        spool.put("x" * 1000)


def half_of(write: Callable[[int, bytes, int], int]) -> Callable[[int, bytes, int], int]:
    """A disk with room for half of what is written."""
    return lambda descriptor, data, place: write(descriptor, data[: len(data) // 2], place)


@contextmanager
def no_file_beyond(num_bytes: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
