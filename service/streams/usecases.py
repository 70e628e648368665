"""Who may watch what, and how many at a time."""

from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from service.errors import TooManyStreams
from service.jobs.job_results import JobResults
from service.jobs.lookup import JobLookup
from service.jobs.presentation import job_view
from service.jobs.records import JobRecord
from service.jobs.result_views import Log
from service.streams.events import event_messages
from service.streams.feed import Feed
from service.streams.logs import Place, log_messages
from service.streams.metrics import metric_messages
from service.streams.response import PING_SECONDS, Messages
from workers.storage import ObjectStore

MAX_STREAMS, MAX_OF_PROJECT = 1000, 250  # of one process


@dataclass(slots=True, kw_only=True)
class Streams:
    """The streams of one process."""

    jobs: JobLookup
    results: JobResults
    feed: Feed
    object_store: ObjectStore
    mlflow_url: str
    max_streams: int = MAX_STREAMS
    max_of_project: int = MAX_OF_PROJECT
    ping_seconds: float = PING_SECONDS
    open_of: Counter[str] = field(default_factory=Counter)  # by project

    @contextmanager
    def place(self, project: str) -> Iterator[None]:
        """Room for one more that watches a job of this project. Raises TooManyStreams."""
        if self.open_of.total() >= self.max_streams:
            raise TooManyStreams(f"this process serves {self.max_streams} streams already: try again")
        if self.open_of[project] >= self.max_of_project:
            raise TooManyStreams(f"project {project} has {self.max_of_project} streams open: close some of them")
        self.open_of[project] += 1
        try:
            yield
        finally:
            self.open_of[project] -= 1

    def events(self, job: JobRecord, last_id: str | None) -> Messages:
        return event_messages(
            job,
            last_id,
            feed=self.feed,
            read=self._reader(job),
            show=self._show,
            ping_seconds=self.ping_seconds,
        )

    async def logs(self, job: JobRecord, last_id: str | None, *, source: str, attempt: int | None) -> Messages:
        """Raises AttemptNotFound if there is none of this number."""
        if attempt is not None:
            await self.results.attempt(job, attempt)

        reader = self.results.log_reader()

        async def read_piece(place: Place) -> Log:
            record = await self.results.attempt(job, place.attempt)
            return await reader.read(record, source=place.source, offset=place.offset)

        return log_messages(
            job,
            last_id,
            source=source,
            attempt=attempt,
            closing=self.feed.closing,
            read_job=self._reader(job),
            read_log=read_piece,
            ping_seconds=self.ping_seconds,
        )

    def metrics(self, job: JobRecord, last_id: str | None, *, waits: bool) -> Messages:
        return metric_messages(
            job,
            last_id,
            closing=self.feed.closing,
            object_store=self.object_store,
            read_job=self._reader(job),
            waits=waits,
            ping_seconds=self.ping_seconds,
        )

    def _reader(self, job: JobRecord) -> Callable[[], Awaitable[JobRecord | None]]:
        async def read() -> JobRecord | None:
            return await self.jobs.find(job.id)

        return read

    async def _show(self, job: JobRecord) -> str:
        """As `GET /v1/jobs/{id}` shows it."""
        position = await self.jobs.queue_position(job)
        return job_view(job, mlflow_url=self.mlflow_url, queue_position=position).model_dump_json()
