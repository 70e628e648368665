"""What clients can do with the jobs that there are; how they come into being is in `submission.py`."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import structlog
from sqlalchemy.ext.asyncio import AsyncConnection

from service.clock import Clock
from service.errors import InvalidRequest, StateConflict
from service.jobs import verbs
from service.jobs.counters import Counters
from service.jobs.lifecycle import EventType
from service.jobs.objects import JobObjects
from service.jobs.pins import pin
from service.jobs.planning_views import Usage
from service.jobs.priorities import allowed_priority
from service.jobs.records import JobRecord
from service.jobs.references import checkpoint_of
from service.jobs.store import JobStore, require_kept, unfinished_forks
from service.jobs.views import OURS, CancelRequest, JobUpdate
from service.web.audit import Requester, record_audit
from service.web.etags import check_if_match
from workers.contract.document import Problem

log = structlog.get_logger()
_A_MONTH = timedelta(days=30)


@dataclass(frozen=True, slots=True, kw_only=True)
class Jobs:
    """The use cases of jobs that there are. `wake` is called with each that was changed."""

    store: JobStore
    objects: JobObjects
    clock: Clock
    wake: Callable[[JobRecord], None]
    stop_patience: timedelta
    counters: Counters

    async def cancel(self, job_id: str, request: CancelRequest, *, requester: Requester) -> JobRecord:
        """End a job that waits, or have one that runs leave."""
        seconds = 0.0 if request.mode == "now" else request.grace_seconds
        grace = self.stop_patience if seconds is None else timedelta(seconds=seconds)
        return await self._change(
            job_id, lambda job: verbs.cancel(job, at=self.clock(), grace=grace), "cancel", requester
        )

    async def pause(self, job_id: str, *, requester: Requester) -> JobRecord:
        def pause(job: JobRecord) -> JobRecord:
            return verbs.pause(job, at=self.clock(), grace=self.stop_patience)

        return await self._change(job_id, pause, "pause", requester)

    async def resume(self, job_id: str, *, requester: Requester) -> JobRecord:
        return await self._change(job_id, lambda job: verbs.resume(job, at=self.clock()), "resume", requester)

    async def retry(self, job_id: str, *, requester: Requester) -> JobRecord:
        """Into the queue again. If it was cancelled, the checkpoint that it draws from may be gone by now.

        Raises:
            CheckpointNotFound: it is.
        """
        job = await self.store.get(job_id, project=requester.project)
        verbs.require(job, "retry")
        source = checkpoint_of(job)

        async def check(connection: AsyncConnection) -> None:
            if source:
                await require_kept(connection, source.job_id)

        if source:
            await pin(self.objects, source, at=self.clock(), job_id=job.id)
        retried = await self._change(
            job_id, lambda job: verbs.retry(job, at=self.clock()), "retry", requester, check=check
        )
        if source:  # again: what removes pins may have looked at the job before it was changed
            await self.objects.pin(source, at=self.clock(), job_id=job.id)
        return retried

    async def archive(self, job_id: str, *, requester: Requester) -> JobRecord:
        return await self._change(job_id, lambda job: verbs.archive(job, at=self.clock()), "archive", requester)

    async def restore(self, job_id: str, *, requester: Requester) -> JobRecord:
        return await self._change(job_id, verbs.restore, "restore", requester)

    async def replay(self, job_id: str, *, requester: Requester) -> JobRecord:
        return await self._change(job_id, lambda job: verbs.replay(job, at=self.clock()), "replay", requester)

    async def delete(self, job_id: str, *, requester: Requester, purge: tuple[str, ...]) -> None:
        """Gone for users. Checkpoints that another job may still read are kept.

        Raises:
            StateConflict: if they were to be removed.
        """

        async def check(connection: AsyncConnection) -> None:
            if "checkpoints" in purge and (forked := await unfinished_forks(connection, job_id)):
                raise StateConflict(
                    f"{' and '.join(forked)} may still read its checkpoints: wait, or do not purge them"
                )

        def delete(job: JobRecord) -> JobRecord:
            return verbs.delete(job, at=self.clock(), purge=purge)

        await self._change(job_id, delete, "delete", requester, check=check)

    async def update(self, job_id: str, request: JobUpdate, *, requester: Requester) -> JobRecord:
        """Change the fields that are given."""
        given = request.model_dump(include=request.model_fields_set)
        if "priority" in given:
            given["priority"] = (await allowed_priority(request, project=requester.project, store=self.store)).rank

        def update(job: JobRecord) -> JobRecord:
            labels = _relabelled(job, request.labels) if "labels" in given else job.labels
            return replace(job, **given | {"labels": labels}, record_due=True)

        return await self._change(job_id, update, "update", requester)

    async def usage(self, project: str | None, *, since: datetime | None, until: datetime | None) -> Usage:
        """Of a project, or of all, in the last month unless told otherwise."""
        end = until or self.clock()
        begin = since or end - _A_MONTH
        if begin >= end:
            problem = Problem("/query/since", "out_of_range", f"must be before {end.isoformat()}")
            raise InvalidRequest("there is no such time", problems=[problem])
        return await self.store.usage(project, since=begin, until=end)

    async def _change(
        self,
        job_id: str,
        verb: verbs.Verb,
        action: str,
        requester: Requester,
        *,
        check: Callable[[AsyncConnection], Awaitable[None]] | None = None,
    ) -> JobRecord:
        """Nothing is changed where `check` raises."""
        while True:  # again if the job moved between being read and being written
            job = await self.store.get(job_id, project=requester.project)
            check_if_match(requester.if_match, job.event_sequence)
            changed, now = verb(job), self.clock()
            if replace(changed, record_due=job.record_due) == job:
                return job
            event: EventType = "state_changed" if changed.state is not job.state else _EVENTS[action]
            async with self.store.writing() as connection:
                written = await self.store.change(
                    connection, job, changed, events=[event], at=now, actor=requester.actor
                )
                if written:
                    await record_audit(connection, requester.entry(f"job.{action}", at=now, target=job_id))
                if written and check:
                    await check(connection)
            if written:
                self.counters.moved(job, written, attempt_ended=False)
                log.info("job.asked", action=action, job_id=job_id, state=written.state, actor=requester.actor)
                self.wake(written)
                return written


def _relabelled(job: JobRecord, wanted: Mapping[str, str]) -> dict[str, str]:
    """What people want, beside what the service has given it; they may send that, too, as they read it.

    Raises:
        InvalidRequest: they want that otherwise.
    """
    ours = {key: value for key, value in job.labels.items() if key.startswith(OURS)}
    changed = [key for key, value in wanted.items() if key.startswith(OURS) and ours.get(key) != value]
    if changed:
        reason = f"labels that begin with {OURS} are the service's: send it as it is, or leave it out"
        problems = [Problem(f"/labels/{key}", "reserved", reason) for key in changed]
        raise InvalidRequest("these labels cannot be changed", problems=problems)
    return {**wanted, **ours}


_EVENTS: dict[str, EventType] = {
    "cancel": "stop_changed",
    "pause": "stop_changed",
    "update": "updated",
    "archive": "archived",
    "restore": "restored",
    "replay": "replay_asked",
    "delete": "deleted",
}
