"""Files of checkpoints that the SDK fetches: as they were written, or not at all."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from service.client import DownloadFailed, NotFound, ServiceUnreachable
from tests.support.client_answers import Time, connected
from tests.support.problems import problem
from workers.contract.keys import MANIFEST

FILES = {"network.safetensors": b"raw", "ema.safetensors": b"averaged" * 1000, "optimizer.safetensors": b"moments"}


class Kept:
    """A service with one checkpoint, and what was asked of it."""

    def __init__(self) -> None:
        self.files = {**FILES, MANIFEST: b"{}"}
        self.asked: list[str] = []
        self.breaks_at: int | None = None  # bytes of each answer
        self.takes_ranges = True
        self.absences: list[Exception | httpx2.Response] = []  # after the first piece, one for each request
        self.ranges: list[str | None] = []

    def __call__(self, request: httpx2.Request) -> httpx2.Response:
        name = request.url.path.rpartition("/files/")[2]
        if name == request.url.path:
            return httpx2.Response(200, json=self.document)
        assert request.url.params["attempt"] == "2", "another attempt may have left one at the same images"
        self.asked.append(name)
        if self.ranges and self.absences:
            return self._absent(self.absences.pop(0))
        return self._file(self.files[name], request.headers.get("range"))

    @property
    def document(self) -> dict[str, object]:
        listed = [
            {"name": name, "num_bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
            for name, data in FILES.items()
        ]
        created = "2026-11-01T00:00:00Z"
        place = {"images_seen": 160, "attempt": 2, "uri": "s3://cdm/jobs/job_1/checkpoints/160-2/"}
        return {**place, "created_at": created, "num_bytes": 1, "files": listed}

    def _file(self, data: bytes, wanted: str | None) -> httpx2.Response:
        self.ranges.append(wanted)
        start = int(wanted.removeprefix("bytes=").removesuffix("-")) if wanted else 0
        headers = {"Accept-Ranges": "bytes"} if self.takes_ranges else {}
        if wanted:
            headers["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
        headers["Content-Length"] = str(len(data) - start)
        return httpx2.Response(206 if wanted else 200, content=self._content(data[start:]), headers=headers)

    @staticmethod
    def _absent(how: Exception | httpx2.Response) -> httpx2.Response:
        if isinstance(how, Exception):
            raise how
        return how

    def _content(self, data: bytes) -> Iterator[bytes]:
        yield data[: self.breaks_at]
        if self.breaks_at is not None and self.breaks_at < len(data):
            raise httpx2.ReadError("cut off")


@pytest.fixture
def kept() -> Kept:
    return Kept()


def test_a_checkpoint_is_there_with_its_manifest_last(kept: Kept, tmp_path: Path) -> None:
    heard: list[tuple[int, int | None]] = []
    with connected(kept) as client:
        found = client.jobs.download_checkpoint("job_1", tmp_path / "there", on_bytes=lambda *come: heard.append(come))

    assert (found.images_seen, found.attempt) == (160, 2)
    assert {path.name: path.read_bytes() for path in (tmp_path / "there").iterdir()} == kept.files
    assert kept.asked[-1] == MANIFEST
    total = sum(map(len, FILES.values()))
    assert heard[-1] == (total, total)
    assert heard == sorted(heard)


def test_only_the_files_that_are_wanted_are_fetched_and_none_twice(kept: Kept, tmp_path: Path) -> None:
    with connected(kept) as client:
        for _ in range(2):
            client.jobs.download_checkpoint("job_1", tmp_path, files=["ema.safetensors"])
        (tmp_path / "ema.safetensors").write_bytes(b"averaged" * 999 + b"AVERAGED")
        client.jobs.download_checkpoint("job_1", tmp_path, files=["ema.safetensors"])

    assert kept.asked == ["ema.safetensors", MANIFEST, MANIFEST, "ema.safetensors", MANIFEST]
    assert (tmp_path / "ema.safetensors").read_bytes() == FILES["ema.safetensors"]


def test_what_is_not_what_was_written_takes_no_place(kept: Kept, tmp_path: Path) -> None:
    kept.files["ema.safetensors"] = b"AVERAGED" * 1000

    with connected(kept) as client, pytest.raises(DownloadFailed, match=r"ema\.safetensors of job_1 at 160 images"):
        client.jobs.download_checkpoint("job_1", tmp_path)

    assert [path.name for path in tmp_path.iterdir()] == ["network.safetensors"]


def test_a_file_that_the_checkpoint_has_not_is_refused_before_anything_is_fetched(kept: Kept, tmp_path: Path) -> None:
    with connected(kept) as client, pytest.raises(DownloadFailed, match=r"has no x and no y: it has network\.safe"):
        client.jobs.download_checkpoint("job_1", tmp_path / "there", files=["ema.safetensors", "x", "y"])

    assert kept.asked == []
    assert not (tmp_path / "there").exists()


def test_what_breaks_off_again_and_again_goes_on_behind_what_has_come(kept: Kept, tmp_path: Path, time: Time) -> None:
    kept.breaks_at = 900

    with connected(kept, time) as client:
        client.jobs.download_checkpoint("job_1", tmp_path, files=["ema.safetensors"])

    assert (tmp_path / "ema.safetensors").read_bytes() == FILES["ema.safetensors"]
    assert kept.ranges[:9] == [None, *(f"bytes={900 * number}-" for number in range(1, 9))]


def test_a_service_that_is_away_for_a_moment_costs_nothing_of_what_has_come(
    kept: Kept, tmp_path: Path, time: Time
) -> None:
    kept.breaks_at = 7000
    kept.absences = [*[httpx2.ConnectError("no route")] * 10, *[problem(503)] * 10]

    with connected(kept, time) as client:
        client.jobs.download_checkpoint("job_1", tmp_path, files=["ema.safetensors"])

    assert (tmp_path / "ema.safetensors").read_bytes() == FILES["ema.safetensors"]
    assert kept.ranges == [None, "bytes=7000-", None], "the last is of the manifest"


def test_a_service_that_stays_away_is_given_up_after_a_minute(kept: Kept, tmp_path: Path, time: Time) -> None:
    kept.breaks_at = 7000
    kept.absences = [httpx2.ConnectError("no route")] * 1000

    with connected(kept, time) as client, pytest.raises(ServiceUnreachable):
        client.jobs.download_checkpoint("job_1", tmp_path, files=["ema.safetensors"])

    assert 60 <= time.seconds < 80
    assert list(tmp_path.iterdir()) == []


def test_a_service_that_gives_no_rests_is_asked_anew_and_not_for_ever(kept: Kept, tmp_path: Path, time: Time) -> None:
    kept.breaks_at, kept.takes_ranges = 900, False

    with connected(kept, time) as client, pytest.raises(ServiceUnreachable):
        client.jobs.download_checkpoint("job_1", tmp_path, files=["ema.safetensors"])

    assert kept.ranges == [None] * 4
    assert list(tmp_path.iterdir()) == []


def test_one_that_is_removed_while_it_is_fetched_is_said_not_to_be_there(
    kept: Kept, tmp_path: Path, time: Time
) -> None:
    kept.breaks_at = 900

    def removed_soon(request: httpx2.Request) -> httpx2.Response:
        return problem(404) if kept.asked else kept(request)

    with connected(removed_soon, time) as client, pytest.raises(NotFound, match="what is wrong"):
        client.jobs.download_checkpoint("job_1", tmp_path, files=["ema.safetensors"])

    assert list(tmp_path.iterdir()) == []
