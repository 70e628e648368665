"""Files that the SDK fetches: whole, or not at all."""

from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from service.client import NotFound, ServiceUnreachable
from tests.support.client_answers import Time, connected
from tests.support.problems import problem


def test_a_file_is_written_as_it_comes_and_takes_its_place_when_it_is_whole(tmp_path: Path) -> None:
    target, heard, piece = tmp_path / "images.zip", list[int](), bytes(1 << 20)
    target.write_bytes(b"of yesterday")

    def content() -> Iterator[bytes]:
        for number in range(4):
            assert len(heard) == number, "nothing is gathered in memory"
            assert target.read_bytes() == b"of yesterday"
            yield piece

    with connected(lambda _: httpx2.Response(200, content=content())) as client:
        client.jobs.save_file("job_1", "images.zip", target, on_bytes=lambda done, _: heard.append(done))

    assert target.read_bytes() == 4 * piece
    assert list(tmp_path.iterdir()) == [target]


def test_a_file_that_never_comes_whole_leaves_what_was_there(tmp_path: Path, time: Time) -> None:
    target, tries = tmp_path / "images.zip", list[int]()
    target.write_bytes(b"of yesterday")

    def content() -> Iterator[bytes]:
        tries.append(1)
        yield bytes(1 << 20)
        raise httpx2.ReadError("cut off")

    with (
        connected(lambda _: httpx2.Response(200, content=content()), time) as client,
        pytest.raises(ServiceUnreachable),
    ):
        client.jobs.save_file("job_1", "images.zip", target)

    assert (len(tries), len(time.pauses)) == (4, 3)
    assert target.read_bytes() == b"of yesterday"
    assert list(tmp_path.iterdir()) == [target]


def test_a_file_that_is_not_there_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    with connected(lambda _: problem(404)) as client, pytest.raises(NotFound, match="what is wrong"):
        client.jobs.save_file("job_1", "images.zip", tmp_path / "images.zip")

    assert list(tmp_path.iterdir()) == []
