"""Carrying decisions out. Each action can be cut off anywhere and repeated."""

import shlex
from collections.abc import Sequence
from dataclasses import replace
from typing import assert_never

import structlog

from service.clock import Clock
from service.cluster import Cluster
from service.cluster.base import AlreadySubmitted, ClusterUnreachable, Submission, SubmissionRefused
from service.jobs.lifecycle import Action, Adopt, Begin, Finish, Hold, MarkRunning, Retry, Revoke, Stop, Submit, Wait
from service.jobs.objects import JobObjects
from service.jobs.records import (
    AttemptRecord,
    JobRecord,
    backend_event,
    checkpoint_images,
    ended,
    heard,
    moved,
    new_attempt,
)
from service.jobs.store import JobStore
from service.jobs.views import JobState
from service.settings import Settings
from workers.contract.keys import JobKeys

log = structlog.get_logger()


class Actions:
    """What `decide` can ask for."""

    def __init__(
        self, *, store: JobStore, objects: JobObjects, cluster: Cluster, settings: Settings, clock: Clock
    ) -> None:
        self._store = store
        self._objects = objects
        self._cluster = cluster
        self._settings = settings
        self._clock = clock

    async def perform(self, action: Action, job: JobRecord, attempt: AttemptRecord | None) -> bool:
        """True if the job moved, and may want another look at once."""
        match action:
            case Wait():
                return False
            case Hold():
                await self._store.apply(job, replace(job, reason=action.reason), event=None, at=self._clock())
                return False
            case Begin():
                return await self._begin(job, after=None, retry=None)
            case Retry():
                return await self._begin(job, after=attempt, retry=action)
            case MarkRunning():
                return await self._move(job, to=JobState.RUNNING)
            case Finish():
                return await self._finish(job, attempt, action)
            case Submit() | Adopt() | Revoke() | Stop():
                if attempt is None:
                    raise LookupError(f"{job.id} has no attempt to act on")
                try:
                    return await self._engage(action, job, attempt)
                except ClusterUnreachable as error:
                    changed = heard(job, reachable=False, message=str(error), at=self._clock())
                    await self._store.apply(job, changed, event=backend_event(job, changed), at=self._clock())
                    return False
            case _:
                assert_never(action)

    async def _engage(self, action: Submit | Adopt | Revoke | Stop, job: JobRecord, attempt: AttemptRecord) -> bool:
        match action:
            case Submit():
                return await self._submit(job, attempt)
            case Adopt():
                await self._store.mark_submitted(attempt, at=self._clock())
                log.info("attempt.adopted", job_id=job.id, attempt=attempt.number)
                return True
            case Revoke():
                if await self._objects.revoke(attempt):
                    return await self._finish(job, attempt, Finish(JobState.CANCELLED, None, "it had not started"))
                await self._store.mark_submitted(attempt, at=self._clock())  # a driver claimed it, so the engine had it
                return True
            case Stop():
                await self._cluster.stop(attempt.submission_id)
                return False  # repeated at every look, until it is over
            case _:
                assert_never(action)

    async def _submit(self, job: JobRecord, attempt: AttemptRecord) -> bool:
        try:
            await self._cluster.submit(self._submission(attempt))
        except AlreadySubmitted:
            return True  # the next look compares and adopts it
        except SubmissionRefused as error:
            return await self._finish(job, attempt, Finish(JobState.FAILED, "invalid_environment", str(error)))
        await self._store.mark_submitted(attempt, at=self._clock())
        log.info("attempt.submitted", job_id=job.id, attempt=attempt.number)
        return True

    def _submission(self, attempt: AttemptRecord) -> Submission:
        spec_url = self._objects.uri(JobKeys(attempt.job_id).spec)
        command = [self._settings.worker_python, "-m", "workers", spec_url, "--attempt", str(attempt.number)]
        return Submission(
            submission_id=attempt.submission_id,
            entrypoint=shlex.join(command),
            metadata={"cdm_job": attempt.job_id, "cdm_attempt": str(attempt.number), "cdm_nonce": attempt.nonce},
            # Ray kills 3 s after its SIGTERM unless told otherwise; a last checkpoint and the workers' end take longer
            environment={"RAY_JOB_STOP_WAIT_TIME_S": str(self._settings.stop_grace_seconds + 15)},
        )

    async def _begin(self, job: JobRecord, *, after: AttemptRecord | None, retry: Retry | None) -> bool:
        """Write the next attempt down before anything is told of it."""
        now = self._clock()
        attempt = new_attempt(job.id, job.attempt + 1, at=now, from_images=checkpoint_images(job))
        reason, message = (retry.reason, retry.message) if retry else (None, None)
        changed = replace(
            moved(job, to=JobState.STARTING, at=now, reason=reason, message=message),
            attempt=attempt.number,
            fruitless_attempts=retry.fruitless if retry else 0,
            started_at=job.started_at or now,
        )
        over = [ended(after, at=now)] if after else []
        return await self._write(job, changed, [*over, attempt], event="attempt_started")

    async def _move(self, job: JobRecord, *, to: JobState) -> bool:
        return await self._write(job, moved(job, to=to, at=self._clock(), reason=None, message=None), [])

    async def _finish(self, job: JobRecord, attempt: AttemptRecord | None, end: Finish) -> bool:
        now = self._clock()
        changed = moved(job, to=end.state, at=now, reason=end.reason, message=end.message)
        return await self._write(job, changed, [ended(attempt, at=now)] if attempt else [])

    async def _write(
        self, job: JobRecord, changed: JobRecord, attempts: Sequence[AttemptRecord], *, event: str = "state_changed"
    ) -> bool:
        written = await self._store.apply(job, changed, event=event, at=self._clock(), changed_attempts=attempts)
        if written:
            log.info("job.moved", job_id=job.id, state=changed.state, attempt=changed.attempt, reason=changed.reason)
        return written
