"""Everything a client can ask about jobs."""

import math
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, Literal, TypedDict, Unpack

from service.client.documents import as_json
from service.client.errors import ClientError, StillRunning
from service.client.job_results import JobResults
from service.client.pages import rows
from service.client.paths import path_to
from service.client.retries import Repeat, may_pass
from service.jobs.planning_views import Plan
from service.jobs.views import EvaluateEach, Fork, Job, JobPage, JobState, Priority
from workers.contract.jobs import AnySpec

_PATIENCE_SECONDS = 60.0  # the service may be started anew while a job runs
_SHORTEST_SECONDS = 1.0  # that an answer is waited for

Spec = AnySpec | Mapping[str, Any]


class JobChanges(TypedDict, total=False):
    """What can be changed of a job, in every state."""

    name: str | None
    labels: Mapping[str, str]
    priority: Priority | str
    max_runtime_seconds: float | None


class ForkOptions(JobChanges, total=False):
    """What can be said of a fork beside its document. Unless given, `evaluations` are its parent's; None: none."""

    evaluations: EvaluateEach | Mapping[str, Any] | None


class JobOptions(ForkOptions, total=False):
    """What can be said of a job beside its document. Without `evaluations` it has none."""

    control: Literal["edm"] | None


class Jobs(JobResults):
    """`client.jobs`"""

    def create(self, spec: Spec, *, idempotency_key: str | None = None, **options: Unpack[JobOptions]) -> Job:
        """Submit a job. A document that is none of the contract's yet is checked by the service.

        Raises:
            InvalidRequest: naming every wrong field.
        """
        return self._connection.post(Job, path_to("jobs"), _request(spec, options), idempotency_key=idempotency_key)

    def plan(self, spec: Spec, **options: Unpack[JobOptions]) -> Plan:
        """What would become of a job if it were submitted now; nothing is written down."""
        return self._connection.post(Plan, path_to("jobs"), _request(spec, options), dry_run=True)

    def retrieve(self, job_id: str) -> Job:
        return self._connection.get(Job, path_to("jobs", job_id))

    def retrieve_with_etag(self, job_id: str) -> tuple[Job, str]:
        """The job, and the tag that `update` takes as `if_match`.

        Raises:
            ClientError: something between has taken the tag away.
        """
        plain = {"Accept-Encoding": "identity"}  # proxies that compress an answer weaken its tag
        answer = self._connection.answer("GET", path_to("jobs", job_id), headers=plain)
        job, etag = self._connection.read(Job, answer), answer.headers.get("etag")
        if etag is None:
            raise ClientError(
                f"{self._connection.address} answered without an ETag: see that proxies between pass that header on"
            )
        return job, etag

    def list(
        self,
        *,
        name: str | None = None,
        id_prefix: str | None = None,
        state: JobState | str | None = None,
        kind: str | None = None,
        created_by: str | None = None,
        labels: Mapping[str, str] | None = None,
        archived: bool | None = None,
        created_after: datetime | None = None,
        all_projects: bool | None = None,
        limit: int | None = None,
    ) -> Iterator[Job]:
        """Jobs, newest first, fetched page by page as they are asked for; `limit` ends it early.

        `name` is a whole name, `id_prefix` the beginning of ids. With `archived`, those that were archived instead of
        the others. `created_by` is an id, or `me` for the key or token of this client; `all_projects` is for admins.
        """
        filters: dict[str, Any] = {
            "name": name,
            "id_prefix": id_prefix,
            "state": state,
            "kind": kind,
            "created_by": created_by,
            "label": [f"{key}={value}" for key, value in labels.items()] if labels else None,
            "archived": archived,
            "created_after": created_after.isoformat() if created_after else None,
            "all_projects": all_projects,
        }
        return rows(self._connection, JobPage, path_to("jobs"), limit=limit, **filters)

    def update(self, job_id: str, *, if_match: str | None = None, **changes: Unpack[JobChanges]) -> Job:
        """Change the fields that are given; `labels` replaces all of them. Works in every state.

        Raises:
            PreconditionFailed: if the job was changed since it had the tag `if_match`.
        """
        return self._connection.patch(Job, path_to("jobs", job_id), dict(changes), if_match=if_match)

    def cancel(
        self, job_id: str, *, mode: Literal["graceful", "now"] = "graceful", grace_seconds: float | None = None
    ) -> Job:
        """Ask a job to stop after a last checkpoint, or `now`. It may be `cancelling` for a while.

        Asking again is harmless; the shorter grace counts.

        Raises:
            StateConflict: if it has ended already.
        """
        return self._ask(job_id, "cancel", {"mode": mode, "grace_seconds": grace_seconds})

    def pause(self, job_id: str) -> Job:
        """Have it leave its workers after a checkpoint, until it is resumed."""
        return self._ask(job_id, "pause")

    def resume(self, job_id: str) -> Job:
        """Queue a paused job again."""
        return self._ask(job_id, "resume")

    def retry(self, job_id: str) -> Job:
        """Queue a failed or cancelled job again; it goes on from its newest checkpoint."""
        return self._ask(job_id, "retry")

    def archive(self, job_id: str) -> Job:
        """Take a job that has ended out of the usual lists."""
        return self._ask(job_id, "archive")

    def restore(self, job_id: str) -> Job:
        """Put an archived job back into the lists."""
        return self._ask(job_id, "restore")

    def replay(self, job_id: str) -> Job:
        """Bring MLflow what it lacks of a job that has ended, out of the object store, into a new run if need be.

        It happens soon after; once MLflow answers, if it does not.
        """
        return self._ask(job_id, "replay")

    def fork(
        self,
        job_id: str,
        *,
        images_seen: int | None = None,
        best: str | None = None,
        overrides: Mapping[str, Any] | None = None,
        idempotency_key: str | None = None,
        **options: Unpack[ForkOptions],
    ) -> Fork:
        """A new job that goes on from a checkpoint of this one, and in what it differs.

        The checkpoint is the newest, or the newest at or below `images_seen`, or that where the curve `best` is lowest.
        `overrides` is merged into the parent's document.
        """
        document = _fork_request(images_seen, best, overrides, options)
        return self._connection.post(Fork, path_to("jobs", job_id, "fork"), document, idempotency_key=idempotency_key)

    def plan_fork(
        self,
        job_id: str,
        *,
        images_seen: int | None = None,
        best: str | None = None,
        overrides: Mapping[str, Any] | None = None,
        **options: Unpack[ForkOptions],
    ) -> Plan:
        """What would become of such a fork if it were submitted now; nothing is written down."""
        document = _fork_request(images_seen, best, overrides, options)
        return self._connection.post(Plan, path_to("jobs", job_id, "fork"), document, dry_run=True)

    def delete(self, job_id: str, *, purge: Sequence[str] = ()) -> None:
        """Remove a job that has ended. What `purge` names of what it left is removed, too, for ever.

        `purge` may name `checkpoints`, `samples`, `logs`, `results`, `metrics` and `exports`.
        """
        self._connection.delete(path_to("jobs", job_id), purge=list(purge) or None)

    def follow(self, job_id: str, *, poll_seconds: float = 1.0) -> Iterator[Job]:
        """The job again and again until it has ended; bridges a minute without a good answer.

        Asks instead of listening: progress makes no events.

        Raises:
            ServiceUnreachable: after that minute.
        """
        return self._states(job_id, poll_seconds=poll_seconds)

    def wait(self, job_id: str, *, timeout: float | None = None, poll_seconds: float = 1.0) -> Job:
        """Wait for a job's end, however it ends. `timeout` is in seconds; one question is asked however short it is.

        Raises:
            StillRunning: if the time is up; the job goes on.
            ServiceUnreachable: if there was no answer in that time, or none for a minute.
        """
        deadline = math.inf if timeout is None else self._connection.timing.monotonic() + timeout
        for job in self._states(job_id, poll_seconds=poll_seconds, deadline=deadline):
            if job.state.is_terminal:
                return job
        raise StillRunning(f"{job_id} is still {job.state} after {timeout:g} s: it goes on; wait again or cancel it")

    def _states(self, job_id: str, *, poll_seconds: float, deadline: float = math.inf) -> Iterator[Job]:
        """The job again and again until it has ended, or the deadline has passed."""
        timing, job = self._connection.timing, None
        answered_at = timing.monotonic()
        while True:
            left = max(deadline - timing.monotonic(), _SHORTEST_SECONDS)
            try:
                job = self._connection.get(Job, path_to("jobs", job_id), within_seconds=left)
            except ClientError as error:
                is_over = job is None and timing.monotonic() >= deadline
                is_silent = timing.monotonic() - answered_at > _PATIENCE_SECONDS
                if is_over or is_silent or not may_pass(error, Repeat.FREELY):
                    raise
            else:
                answered_at = timing.monotonic()
                yield job
                if job.state.is_terminal:
                    return
            left = deadline - timing.monotonic()
            if left <= 0:
                return
            timing.sleep(min(poll_seconds, left))

    def _ask(self, job_id: str, verb: str, document: Any = None) -> Job:
        return self._connection.post(Job, path_to("jobs", job_id, verb), document)


def _request(spec: Spec, options: JobOptions) -> dict[str, Any]:
    document = dict(spec) if isinstance(spec, Mapping) else as_json(spec)
    return {"spec": document, **_in_json(options)}


def _fork_request(
    images_seen: int | None, best: str | None, overrides: Mapping[str, Any] | None, options: ForkOptions
) -> dict[str, Any]:
    source = {"images_seen": images_seen, "best": best}
    return {"source": source, "overrides": dict(overrides or {}), **_in_json(options)}


def _in_json(options: ForkOptions) -> dict[str, Any]:
    evaluations = options.get("evaluations")
    if isinstance(evaluations, EvaluateEach):
        return {**options, "evaluations": as_json(evaluations, exclude_unset=True)}
    return {**options}
