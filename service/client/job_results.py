"""What jobs leave: attempts, events, logs, curves, checkpoints, pictures."""

from collections.abc import Collection, Iterator, Sequence
from hashlib import file_digest
from pathlib import Path
from typing import Any, Literal

from service.client.connection import Connection
from service.client.downloads import download
from service.client.errors import DownloadFailed
from service.client.files import OnBytes, replaced, unheard
from service.client.paths import path_to
from service.client.streams import messages
from service.jobs.result_views import (
    Attempt,
    AttemptList,
    Checkpoint,
    CheckpointList,
    EvaluationList,
    Event,
    EventPage,
    Log,
    LogSource,
    LogSourceList,
    ResultFile,
    ResultFileList,
    SampleList,
)
from service.metrics.views import MetricRow, MetricSeries, MetricSeriesList
from service.streams.views import LOG, METRICS, RESET, SNAPSHOT
from workers.contract.data import DatasetManifest
from workers.contract.evaluation import Evaluation
from workers.contract.keys import DRIVER_LOG, MANIFEST
from workers.contract.records import CheckpointFile

ImagesSeen = int | Literal["latest"]


class JobResults:
    """The part of `client.jobs` that only reads."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def attempts(self, job_id: str) -> tuple[Attempt, ...]:
        """Its submissions to the engine, oldest first."""
        return self._connection.get(AttemptList, path_to("jobs", job_id, "attempts")).data

    def events(self, job_id: str, *, after: int = 0) -> Iterator[Event]:
        """What has happened to a job so far, beginning behind the event number `after`."""
        while True:
            page = self._connection.get(EventPage, path_to("jobs", job_id, "events"), after=after)
            yield from page.data
            if not page.has_more:
                return
            after = page.data[-1].sequence

    def stream_events(self, job_id: str, *, after: int = 0) -> Iterator[Event]:
        """What happened to a job behind the event number `after`, and then what happens, until it has ended.

        Each event comes once and in order, however often the stream is cut.

        Raises:
            ServiceUnreachable: if the service stays away.
        """
        for message in messages(self._connection, path_to("jobs", job_id, "events", "stream"), after=str(after)):
            if message.event in {SNAPSHOT, RESET}:  # what lies between is lost: the database was rebuilt
                after = int(message.id)
            elif (event := self._connection.read_message(Event, message.data)).sequence > after:
                after = event.sequence
                yield event

    def log_sources(self, job_id: str, *, attempt: int | None = None) -> tuple[LogSource, ...]:
        """Which logs an attempt (default: the latest) has: of the driver, of each rank, of the engine."""
        return self._connection.get(LogSourceList, path_to("jobs", job_id, "logs", "sources"), attempt=attempt).data

    def logs(
        self,
        job_id: str,
        *,
        attempt: int | None = None,
        source: str = DRIVER_LOG,
        offset: int = 0,
        tail: int | None = None,
    ) -> Log:
        """A piece of a log of an attempt (default: the latest); go on at its `next_offset`.

        With `tail` its last so many lines (up to a megabyte of them), of which it has 10,000 at most.
        """
        where: dict[str, Any] = {"attempt": attempt, "source": source, "offset": offset, "tail": tail}
        return self._connection.get(Log, path_to("jobs", job_id, "logs"), **where)

    def stream_logs(
        self, job_id: str, *, attempt: int | None = None, source: str = DRIVER_LOG, behind: Log | None = None
    ) -> Iterator[Log]:
        """A log from its first byte on, piece by piece as it is written, until nothing will follow.

        Without an `attempt`, of the latest and of those that come after it. With a piece of the same log, what comes
        `behind` it.
        """
        where = path_to("jobs", job_id, "logs", "stream")
        after = f"{behind.attempt}:{behind.source}:{behind.next_offset}" if behind else None
        for message in messages(self._connection, where, after=after, attempt=attempt, source=source):
            if message.event == LOG:
                yield self._connection.read_message(Log, message.data)

    def metrics(
        self,
        job_id: str,
        keys: Sequence[str] = (),
        *,
        first: int | None = None,
        last: int | None = None,
        max_points: int | None = None,
    ) -> tuple[MetricSeries, ...]:
        """The curves of these keys (at most 20), from `first` to `last` images seen, down-sampled to `max_points`.

        Without `keys`: every key there is, with its latest value and no points.
        """
        span: dict[str, Any] = {"from": first, "to": last, "max_points": max_points}
        wanted = ",".join(keys) or None
        return self._connection.get(MetricSeriesList, path_to("jobs", job_id, "metrics"), keys=wanted, **span).data

    def stream_metrics(self, job_id: str, *, follow: bool = True) -> Iterator[MetricRow]:
        """Every row of metrics from the job's first on, as it is written, until nothing will follow.

        Without `follow`, those that there are.
        """
        for message in messages(self._connection, path_to("jobs", job_id, "metrics", "stream"), follow=follow):
            if message.event == METRICS:
                yield self._connection.read_message(MetricRow, message.data)

    def checkpoints(self, job_id: str) -> tuple[Checkpoint, ...]:
        """Committed checkpoints, oldest first."""
        return self._connection.get(CheckpointList, path_to("jobs", job_id, "checkpoints")).data

    def checkpoint(self, job_id: str, *, images_seen: ImagesSeen = "latest", attempt: int | None = None) -> Checkpoint:
        """One of them; where several attempts have left one at the same images, by default that of the last.

        Raises:
            NotFound: there is none, or its training has removed it.
        """
        return self._connection.get(
            Checkpoint, path_to("jobs", job_id, "checkpoints", str(images_seen)), attempt=attempt
        )

    def download_checkpoint(
        self,
        job_id: str,
        folder: str | Path,
        *,
        images_seen: ImagesSeen = "latest",
        attempt: int | None = None,
        files: Collection[str] | None = None,
        on_bytes: OnBytes = unheard,
    ) -> Checkpoint:
        """Write files of a checkpoint (None: all) into a folder, and last its `MANIFEST.json`.

        Each takes its place when it is whole and has the sha256 that the checkpoint says; one that is there already and
        has it is not fetched again. `on_bytes` hears how many bytes have come, and how many all of them have.

        Raises:
            NotFound: there is no such checkpoint, or its training has removed it meanwhile.
            DownloadFailed: the checkpoint has no such file, or what came is not what was written.
            OSError: nothing can be written there.
        """
        found = self.checkpoint(job_id, images_seen=images_seen, attempt=attempt)
        wanted, place = _wanted(found, files), Path(folder)
        place.mkdir(parents=True, exist_ok=True)
        done, total = 0, sum(file.num_bytes for file in wanted)

        def tell(come: int, _: int | None) -> None:
            on_bytes(done + come, total)

        for file in wanted:
            if not _is_there(place / file.name, file):
                self._fetch(job_id, found, file, place, tell)
            done += file.num_bytes
            on_bytes(done, total)
        with replaced(place / MANIFEST) as target:
            manifest = _file_path(job_id, found, MANIFEST)
            download(self._connection, manifest, target, on_bytes=unheard, attempt=found.attempt)
        return found

    def dataset(self, job_id: str) -> DatasetManifest:
        """What there is to say of the image set that a training learns from, or an import has brought."""
        return self._connection.get(DatasetManifest, path_to("jobs", job_id, "dataset"))

    def evaluations(self, job_id: str) -> tuple[Evaluation, ...]:
        """What evaluation jobs have found of its checkpoints, by images seen."""
        return self._connection.get(EvaluationList, path_to("jobs", job_id, "evaluations")).data

    def files(self, job_id: str) -> tuple[ResultFile, ...]:
        """The files that a sample, evaluation or import job has left."""
        return self._connection.get(ResultFileList, path_to("jobs", job_id, "files")).data

    def file(self, job_id: str, name: str) -> bytes:
        """One of them that is small, such as its `result.json`; `save_file` takes those of any size."""
        return self._connection.answer("GET", path_to("jobs", job_id, "files", name)).content

    def save_file(self, job_id: str, name: str, target: str | Path, *, on_bytes: OnBytes = unheard) -> None:
        """Write one of them to a path, piece by piece. Only when it is whole it replaces what is there.

        `on_bytes` hears how many bytes have come, and how many there are. What breaks off goes on behind what has come.

        Raises:
            OSError: nothing can be written there.
        """
        with replaced(Path(target)) as file:
            download(self._connection, path_to("jobs", job_id, "files", name), file, on_bytes=on_bytes)

    def samples(self, job_id: str) -> tuple[int, ...]:
        """Which sample grids there are, by images seen, oldest first."""
        found = self._connection.get(SampleList, path_to("jobs", job_id, "samples")).data
        return tuple(sample.images_seen for sample in found)

    def sample(self, job_id: str, *, images_seen: ImagesSeen = "latest") -> bytes:
        """A sample grid as PNG."""
        return self._connection.answer("GET", path_to("jobs", job_id, "samples", str(images_seen))).content

    def _fetch(self, job_id: str, of: Checkpoint, file: CheckpointFile, folder: Path, on_bytes: OnBytes) -> None:
        place = _file_path(job_id, of, file.name)
        with replaced(folder / file.name) as target:
            digest = download(self._connection, place, target, on_bytes=on_bytes, attempt=of.attempt)
            if digest != file.sha256:
                raise DownloadFailed(
                    f"{file.name} of {job_id} at {of.images_seen} images has not come as it was written: try again; if "
                    "that does not help it is damaged, and another checkpoint is needed"
                )


def _file_path(job_id: str, checkpoint: Checkpoint, name: str) -> str:
    return path_to("jobs", job_id, "checkpoints", str(checkpoint.images_seen), "files", name)


def _wanted(checkpoint: Checkpoint, names: Collection[str] | None) -> list[CheckpointFile]:
    there = {file.name: file for file in checkpoint.files}
    lacking = [name for name in names or () if name not in there]
    if lacking:
        at = f"the checkpoint at {checkpoint.images_seen} images"
        raise DownloadFailed(f"{at} has no {' and no '.join(lacking)}: it has {', '.join(there)}")
    return [file for name, file in there.items() if names is None or name in names]


def _is_there(path: Path, file: CheckpointFile) -> bool:
    if not path.is_file() or path.stat().st_size != file.num_bytes:
        return False
    with path.open("rb") as content:
        return file_digest(content, "sha256").hexdigest() == file.sha256
