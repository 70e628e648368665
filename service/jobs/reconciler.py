"""The loop that makes jobs happen: take, look, decide, act, write down.

It keeps nothing in memory that matters, so it can be ended at any line and started again: whatever was done but not
written down is found done, or done again harmlessly. Several replicas share the jobs by leases in their rows: each
keeps those that it has, and takes those of one that is gone. One that was frozen past its lease finds its token gone,
and what it would write changes nothing.
"""

import asyncio
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime

import structlog

from service.clock import Clock
from service.cluster import Cluster
from service.cluster.base import ClusterUnreachable, Run
from service.database.leases import Replica
from service.errors import DatabaseUnavailable, StorageUnavailable
from service.jobs.actions import Actions
from service.jobs.counters import Counters
from service.jobs.evidence import (
    UNDER_WAY,
    Limits,
    Observed,
    Unreachable,
    facts_of,
    is_silent,
    is_stalled,
    tracking_delay,
)
from service.jobs.lifecycle import decide
from service.jobs.objects import JobObjects
from service.jobs.records import AttemptRecord, JobRecord, condition_events, with_condition
from service.jobs.store import MIN_LEASE_SHARE, JobStore
from workers.contract.records import Progress

log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class Reconciler:
    """Looks after jobs that hold workers; who may leave the queue is decided by the scheduler.

    A look that takes longer than `patience_seconds` goes on behind the next ones. `began_at`: when this process came.
    """

    store: JobStore
    objects: JobObjects
    cluster: Cluster
    clock: Clock
    counters: Counters
    limits: Limits
    actions: Actions
    replica: Replica
    lease_seconds: float
    began_at: datetime
    patience_seconds: float = 5.0
    _looks: dict[str, asyncio.Task[bool]] = field(init=False, default_factory=dict)  # under way, by job
    _in_vain: set[str] = field(init=False, default_factory=set)  # jobs with which another replica may fare better

    async def tick(self) -> bool:
        """One look at every active job that nobody else has, side by side; True if one moved."""
        # A lease outlasts what is done under it, and runs already while the database takes its time to grant it.
        until = asyncio.get_running_loop().time() + MIN_LEASE_SHARE * self.lease_seconds
        jobs = await self.store.hold(self.replica.token, now=self.clock(), seconds=self.lease_seconds)
        for _ in self._looks:
            self.counters.looked("postponed")
        begun = [self._begin(job, until=until) for job in jobs if job.id not in self._looks]
        done = (await asyncio.wait(begun, timeout=self.patience_seconds))[0] if begun else set()
        await self._give_back()
        return any(look.result() for look in done)

    async def finish(self) -> None:
        """Cut off what still goes on, and leave all jobs to other replicas."""
        if looks := list(self._looks.values()):
            for look in looks:
                look.cancel()
            await asyncio.wait(looks)
        with suppress(DatabaseUnavailable):  # then the leases run out
            await self.store.release(self.replica.token)

    def _begin(self, job: JobRecord, *, until: float) -> asyncio.Task[bool]:
        look = self._looks[job.id] = asyncio.create_task(self._isolated(job, until=until))
        look.add_done_callback(lambda _: self._looks.pop(job.id))
        return look

    async def _isolated(self, job: JobRecord, *, until: float) -> bool:
        try:
            async with asyncio.timeout_at(until):
                moved = await self._reconcile(job)
        except (DatabaseUnavailable, StorageUnavailable) as error:
            self.counters.looked("postponed")
            log.warning("job.postponed", job_id=job.id, error=error.detail)
        except TimeoutError:  # it has been counted at each tick
            log.warning("job.postponed", job_id=job.id, error="a look at it took too long")
        except Exception:
            self.counters.looked("failed")
            log.exception("job.reconcile_failed", job_id=job.id)
        else:
            self.counters.looked("done")
            return moved
        self._in_vain.add(job.id)
        return False

    async def _give_back(self) -> None:
        if self._in_vain:
            with suppress(DatabaseUnavailable):  # then the leases run out
                await self.store.release(self.replica.token, frozenset(self._in_vain))
            self._in_vain.clear()

    async def _reconcile(self, job: JobRecord) -> bool:
        await self.actions.installation.id()  # of what is missing in the store of another, nothing follows
        attempt = await self.store.attempt(job.id, job.attempt) if job.attempt else None
        observed = await self._observe(job, attempt)
        noted = await self._note(job, observed)
        if noted is None:
            return True  # it has moved on, or is somebody else's by now
        action = decide(facts_of(noted, attempt, observed, now=self.clock(), limits=self.limits))
        moved = False
        try:
            moved = await self.actions.perform(action, noted, attempt)
        except ClusterUnreachable as error:
            observed = replace(observed, run=self._unreachable(noted, error))
            await self._note(noted, observed)
        if isinstance(observed.run, Unreachable):
            self._in_vain.add(job.id)
        return moved

    async def _observe(self, job: JobRecord, attempt: AttemptRecord | None) -> Observed:
        """In the order in which they end: what was written before the engine, or the outcome, said so is then read."""
        if attempt is None or attempt.ended_at:
            return Observed()
        run: Run | Unreachable | None
        session = None
        try:
            run = await self.cluster.find(attempt.submission_id)
            session = await self.cluster.session() if run is None else None
        except ClusterUnreachable as error:
            run = self._unreachable(job, error)
        outcome = await self.objects.outcome(job.id, attempt.number)
        progress = await self.objects.progress(job.id, attempt.number)
        claimed = progress is not None or await self.objects.is_claimed(attempt)
        return Observed(run=run, session=session, outcome=outcome, progress=progress, claimed=claimed)

    def _unreachable(self, job: JobRecord, error: ClusterUnreachable) -> Unreachable:
        """Counted from the first look in vain, but of this process: an earlier one's may have been long ago."""
        reachable = job.conditions.get("BackendReachable")
        since = reachable.since if reachable and not reachable.status else self.clock()
        return Unreachable(str(error), since=max(since, self.began_at))

    async def _note(self, job: JobRecord, observed: Observed) -> JobRecord | None:
        """Write down what was seen, so that it can be shown even when the place it came from is down."""
        now = self.clock()
        changed = _with_signs_of_life(job, observed, at=now)
        if isinstance(observed.run, Unreachable):
            changed = with_condition(changed, "BackendReachable", status=False, message=observed.run.message, at=now)
        elif observed.run or observed.session:
            changed = with_condition(changed, "BackendReachable", status=True, message=None, at=now)
        if observed.progress:
            silent = is_silent(changed, now=now)
            changed = with_condition(changed, "Heartbeating", status=not silent, message=None, at=now)
            lack = observed.progress.waiting_for
            changed = with_condition(changed, "ResourcesAvailable", status=lack is None, message=lack, at=now)
            delay = tracking_delay(observed.progress)
            changed = with_condition(changed, "TrackingCurrent", status=delay is None, message=delay, at=now)
        if observed.progress and changed.state in UNDER_WAY:  # what is made to leave for it has not got on by that
            stalled = is_stalled(changed, now=now, limits=self.limits)
            changed = with_condition(changed, "Progressing", status=not stalled, message=None, at=now)
        events = condition_events(job, changed)
        noted = await self.store.apply(job, changed, events=events, at=now, lease=self.replica.token)
        if noted:  # only one replica writes this down, so it is counted once
            self.counters.heard(job, noted)
        return noted


def _with_signs_of_life(job: JobRecord, observed: Observed, *, at: datetime) -> JobRecord:
    """Its latest progress, and when that last changed: by our clock, for the workers' may be wrong."""
    last_word = observed.outcome or observed.progress
    changed = replace(job, mlflow_run_id=(last_word and last_word.mlflow_run_id) or job.mlflow_run_id)
    new, old = observed.progress, job.progress
    if new is None or new == old:
        return changed
    advanced = job.heard_at is None or old is None or _place(new) != _place(old)
    return replace(changed, progress=new, heard_at=at, advanced_at=at if advanced else job.advanced_at)


def _place(progress: Progress) -> tuple[int, str, int]:
    """Where it stands: what changes when it gets on, or is begun again."""
    return progress.images_seen, progress.phase, progress.restarts
