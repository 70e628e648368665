"""Everything a client can ask about jobs."""

import time
from collections.abc import Iterator, Mapping
from typing import Any, Literal
from urllib.parse import quote

from service.client.connection import Connection
from service.client.errors import StillRunning
from service.jobs.views import Checkpoint, CheckpointList, Event, EventPage, Job, JobPage, JobState, Log, SampleList
from workers.contract.spec import TrainSpec


class Jobs:
    """`client.jobs`"""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def create(self, spec: TrainSpec | Mapping[str, Any], *, name: str | None = None) -> Job:
        """Submit a job. A document that is not a `TrainSpec` yet is checked by the service.

        Raises:
            InvalidRequest: naming every wrong field.
        """
        document = spec.model_dump(mode="json") if isinstance(spec, TrainSpec) else dict(spec)
        return Job.model_validate_json(self._connection.post("/v1/jobs", {"name": name, "spec": document}))

    def retrieve(self, job_id: str) -> Job:
        return Job.model_validate_json(self._connection.get(_path(job_id)))

    def list(self, *, state: JobState | str | None = None, limit: int | None = None) -> Iterator[Job]:
        """Jobs, newest first, fetched page by page as they are asked for; `limit` ends it early."""
        cursor, left = None, limit
        while left is None or left > 0:
            size = _PAGE if left is None else min(left, _PAGE)
            page = JobPage.model_validate_json(self._connection.get("/v1/jobs", state=state, cursor=cursor, limit=size))
            yield from page.data
            if not page.has_more:
                return
            cursor, left = page.next_cursor, left and left - len(page.data)

    def cancel(self, job_id: str) -> Job:
        """Ask a job to stop after a last checkpoint. It may be `cancelling` for a while; asking again is harmless.

        Raises:
            Conflict: if it has ended already.
        """
        return Job.model_validate_json(self._connection.post(_path(job_id, "cancel")))

    def events(self, job_id: str, *, after: int = 0) -> Iterator[Event]:
        """What has happened to a job so far, beginning behind the event number `after`."""
        while True:
            page = EventPage.model_validate_json(self._connection.get(_path(job_id, "events"), after=after))
            yield from page.data
            if not page.has_more:
                return
            after = page.data[-1].sequence

    def logs(self, job_id: str, *, attempt: int | None = None, offset: int = 0) -> Log:
        """A piece of the log of an attempt (default: the latest); go on at its `next_offset`."""
        return Log.model_validate_json(self._connection.get(_path(job_id, "logs"), attempt=attempt, offset=offset))

    def checkpoints(self, job_id: str) -> tuple[Checkpoint, ...]:
        """Committed checkpoints, oldest first."""
        return CheckpointList.model_validate_json(self._connection.get(_path(job_id, "checkpoints"))).data

    def samples(self, job_id: str) -> tuple[int, ...]:
        """Which sample grids there are, by images seen, oldest first."""
        return SampleList.model_validate_json(self._connection.get(_path(job_id, "samples"))).data

    def sample(self, job_id: str, *, images_seen: int | Literal["latest"] = "latest") -> bytes:
        """A sample grid as PNG."""
        return self._connection.get(_path(job_id, "samples", str(images_seen)))

    def wait(self, job_id: str, *, timeout: float | None = None, poll_seconds: float = 1.0) -> Job:
        """Wait for a job's end, however it ends. `timeout` is in seconds.

        Raises:
            StillRunning: if the time is up; the job goes on.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        while not (job := self.retrieve(job_id)).state.is_terminal:
            if deadline is not None and time.monotonic() >= deadline:
                raise StillRunning(
                    f"{job_id} is still {job.state} after {timeout:g} s: it goes on; wait again or cancel it"
                )
            time.sleep(poll_seconds)
        return job


_PAGE = 50


def _path(job_id: str, *parts: str) -> str:
    return "/".join(["/v1/jobs", quote(job_id, safe=""), *parts])
