"""Carrying decisions out. Each action can be cut off anywhere and repeated."""

import shlex
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import assert_never

import structlog

from service.clock import Clock
from service.cluster import Cluster
from service.cluster.base import AlreadySubmitted, ClusterUnreachable, Submission, SubmissionRefused
from service.database.leases import Replica
from service.jobs.budgets import counted
from service.jobs.counters import Counters
from service.jobs.evidence import Limits, never_began, taken
from service.jobs.installation import Installation
from service.jobs.lifecycle import (
    Action,
    Adopt,
    Ask,
    Begin,
    Ending,
    EventType,
    Fence,
    Intent,
    JobState,
    Move,
    Revoke,
    Stop,
    Submit,
    Verdict,
    Wait,
    conclude,
)
from service.jobs.objects import JobObjects
from service.jobs.records import AttemptRecord, JobRecord, asked, checkpoint_images, ended, moved, new_attempt
from service.jobs.store import JobStore
from service.settings import Settings
from workers.contract.keys import JobKeys

log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class Actions:
    """What `decide` can ask for. `installation` marks what is ours on an engine that others use, too.

    `refused_since`: of submissions, when the engine first did not take a stop that it has not taken since.
    """

    store: JobStore
    objects: JobObjects
    cluster: Cluster
    settings: Settings
    limits: Limits
    clock: Clock
    installation: Installation
    counters: Counters
    replica: Replica
    refused_since: dict[str, datetime] = field(default_factory=dict)

    async def perform(self, action: Action, job: JobRecord, attempt: AttemptRecord | None) -> bool:
        """True if the job moved, and may want another look at once.

        Raises:
            ClusterUnreachable: nothing was changed here.
        """
        match action:
            case Wait():
                return False
            case Begin():
                changed, begun = await self.next_attempt(job)
                return await self._write(job, changed, begun, event="attempt_started")
            case Ask():
                changed = asked(job, action.intent, at=self.clock(), grace=self.settings.stop_patience)
                return await self._write(job, changed)
            case Move():
                return await self._move(job, attempt, action)
            case _:
                if attempt is None:
                    raise LookupError(f"{job.id} has no attempt to act on")
                return await self._engage(action, job, attempt)

    async def _engage(
        self, action: Submit | Adopt | Revoke | Stop | Fence, job: JobRecord, attempt: AttemptRecord
    ) -> bool:
        match action:
            case Submit():
                return await self._submit(job, attempt)
            case Adopt():
                session = await self.cluster.session()
                log.info("attempt.adopted", job_id=job.id, attempt=attempt.number)
                return await self._submitted(job, attempt, session=session)
            case Revoke():
                return await self._revoke(job, attempt)
            case Stop():
                return await self._stop(job, attempt)
            case Fence():
                return await self._fence(job, attempt)
            case _:
                assert_never(action)

    async def next_attempt(self, job: JobRecord) -> tuple[JobRecord, AttemptRecord]:
        """The job as its next attempt begins, to be written down before anything is told of it.

        It is numbered behind every number that was ever claimed.
        """
        now = self.clock()
        number = max(job.attempt, await self.objects.newest_claim(job.id)) + 1
        service = await self.installation.id()
        attempt = new_attempt(job.id, number, service=service, at=now, from_images=checkpoint_images(job))
        reason, message = (job.reason, job.message) if job.state is JobState.RECOVERING else (None, None)
        changed = replace(
            moved(job, to=JobState.STARTING, at=now, reason=reason, message=message),
            attempt=number,
            not_before=None,
            started_at=now if job.state is JobState.QUEUED else job.started_at,
            heard_at=None,
            advanced_at=None,
        )
        return changed, attempt

    async def _submit(self, job: JobRecord, attempt: AttemptRecord) -> bool:
        session = await self.cluster.session()
        try:
            await self.cluster.submit(await self._submission(attempt))
        except AlreadySubmitted:
            return True  # the next look compares and adopts it
        except SubmissionRefused as error:
            refused = Verdict(ending=Ending.FAILED, reason="invalid_environment", message=str(error))
            return await self._move(job, attempt, conclude(job.intent, refused))
        log.info("attempt.submitted", job_id=job.id, attempt=attempt.number)
        return await self._submitted(job, attempt, session=session)

    async def _submitted(self, job: JobRecord, attempt: AttemptRecord, *, session: str | None = None) -> bool:
        now = self.clock()
        known = replace(attempt, submitted_at=attempt.submitted_at or now, session=session or attempt.session)
        return await self.store.apply(job, job, at=now, attempt=known, lease=self.replica.token) is not None

    async def _revoke(self, job: JobRecord, attempt: AttemptRecord) -> bool:
        if await self.objects.revoke(attempt):
            verdict = never_began(job, attempt, now=self.clock(), limits=self.limits)
            return await self._move(job, attempt, conclude(job.intent, verdict))
        return await self._submitted(job, attempt)  # a driver claimed it, so the engine had it

    async def _stop(self, job: JobRecord, attempt: AttemptRecord) -> bool:
        """Its time to leave begins when the engine hears of it, unless a user wants the job to be gone by then.

        Repeated at every look, until it is over.
        """
        patience = self.settings.stop_patience
        try:
            await self.cluster.stop(attempt.submission_id)
        except ClusterUnreachable:
            # An engine may answer looks and take no stops. It may also not have been asked until now.
            since = self.refused_since.setdefault(attempt.submission_id, self.clock())
            if job.stop_by and self.clock() > max(job.stop_by, since) + patience:
                return await self._fence(job, attempt)
            raise
        self.refused_since.pop(attempt.submission_id, None)
        if attempt.stop_sent_at is None:
            now = self.clock()
            is_told = replace(attempt, stop_sent_at=now)
            changed = job if job.intent is Intent.CANCEL else replace(job, stop_by=now + patience)
            await self.store.apply(job, changed, at=now, attempt=is_told, lease=self.replica.token)
        return False

    async def _fence(self, job: JobRecord, attempt: AttemptRecord) -> bool:
        """The job moves first: an engine that takes a call and never answers it must not keep it where it is."""
        await self.objects.fence(attempt)
        self.refused_since.pop(attempt.submission_id, None)
        verdict = taken(job, attempt, now=self.clock(), limits=self.limits)
        has_moved = await self._move(job, attempt, conclude(job.intent, verdict))
        with suppress(ClusterUnreachable):  # the sweep will try again
            await self.cluster.stop(attempt.submission_id)
        return has_moved

    async def _submission(self, attempt: AttemptRecord) -> Submission:
        spec_url = self.objects.uri(JobKeys(attempt.job_id).spec)
        command = [self.settings.worker_python, "-m", "workers", spec_url, "--attempt", str(attempt.number)]
        return Submission(
            submission_id=attempt.submission_id,
            entrypoint=shlex.join(command),
            metadata={
                "cdm_job": attempt.job_id,
                "cdm_attempt": str(attempt.number),
                "cdm_nonce": attempt.nonce,
                "cdm_service": await self.installation.id(),
            },
            # Ray kills 3 s after its SIGTERM unless told otherwise; a last checkpoint and the workers' end take longer
            environment={"RAY_JOB_STOP_WAIT_TIME_S": str(self.settings.stop_grace_seconds + 15)},
        )

    async def _move(self, job: JobRecord, attempt: AttemptRecord | None, move: Move) -> bool:
        now = self.clock()
        changed = replace(
            moved(job, to=move.to, at=now, reason=move.reason, message=move.message),
            not_before=move.retry_at,
            unclean=job.unclean or move.unclean,
        )
        if move.to is JobState.RECOVERING and move.closes:
            changed = counted(replace(changed, intent=None, stop_by=None), attempt, move)
        over = attempt if move.closes and attempt and not attempt.ended_at else None
        over = over and ended(over, at=now, reason=move.reason, message=move.message)
        return await self._write(job, changed, over)

    async def _write(
        self,
        job: JobRecord,
        changed: JobRecord,
        attempt: AttemptRecord | None = None,
        *,
        event: EventType = "state_changed",
    ) -> bool:
        written = await self.store.apply(
            job, changed, events=[event], at=self.clock(), attempt=attempt, lease=self.replica.token
        )
        if written:
            self.report_move(job, written, attempt)
        return written is not None

    def report_move(self, job: JobRecord, written: JobRecord, attempt: AttemptRecord | None) -> None:
        """Tell operators of a move that has been written down."""
        self.counters.moved(job, written, attempt_ended=bool(attempt and attempt.ended_at))
        log.info("job.moved", job_id=job.id, state=written.state, attempt=written.attempt, reason=written.reason)
