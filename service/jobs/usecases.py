"""What clients can do with jobs."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Literal

import structlog
from sqlalchemy.ext.asyncio import AsyncConnection

from service.errors import (
    AttemptNotFound,
    CheckpointNotFound,
    InvalidRequest,
    SampleNotFound,
    StateConflict,
    StorageUnavailable,
)
from service.jobs import verbs
from service.jobs.lifecycle import EventType
from service.jobs.records import AttemptRecord, JobRecord
from service.jobs.references import checkpoint_of
from service.jobs.store import require_kept, unfinished_forks
from service.jobs.submission import Submission
from service.jobs.usage_views import Usage
from service.jobs.views import OURS, CancelRequest, JobUpdate
from service.web.audit import Origin, record_audit
from service.web.etags import check_if_match
from workers.contract import records as contract
from workers.contract.document import Problem

log = structlog.get_logger()
_A_MONTH = timedelta(days=30)


@dataclass(frozen=True, slots=True, kw_only=True)
class Jobs(Submission):
    """The use cases."""

    async def cancel(self, job_id: str, request: CancelRequest, *, origin: Origin) -> JobRecord:
        """End a job that waits, or have one that runs leave."""
        seconds = 0.0 if request.mode == "now" else request.grace_seconds
        grace = self.stop_patience if seconds is None else timedelta(seconds=seconds)
        return await self._change(job_id, lambda job: verbs.cancel(job, at=self.clock(), grace=grace), "cancel", origin)

    async def pause(self, job_id: str, *, origin: Origin) -> JobRecord:
        def pause(job: JobRecord) -> JobRecord:
            return verbs.pause(job, at=self.clock(), grace=self.stop_patience)

        return await self._change(job_id, pause, "pause", origin)

    async def resume(self, job_id: str, *, origin: Origin) -> JobRecord:
        return await self._change(job_id, lambda job: verbs.resume(job, at=self.clock()), "resume", origin)

    async def retry(self, job_id: str, *, origin: Origin) -> JobRecord:
        """Into the queue again. If it was cancelled, the checkpoint that it draws from may be gone by now.

        Raises:
            CheckpointNotFound: it is.
        """
        job = await self.find(job_id, project=origin.project)
        verbs.require(job, "retry")
        source = checkpoint_of(job)

        async def check(connection: AsyncConnection) -> None:
            if source:
                await require_kept(connection, source.job_id)

        if source:
            await self._keep(source, job_id=job.id)
        retried = await self._change(
            job_id, lambda job: verbs.retry(job, at=self.clock()), "retry", origin, check=check
        )
        if source:  # again: what removes pins may have looked at the job before it was changed
            await self.objects.pin(source, at=self.clock(), job_id=job.id)
        return retried

    async def archive(self, job_id: str, *, origin: Origin) -> JobRecord:
        return await self._change(job_id, lambda job: verbs.archive(job, at=self.clock()), "archive", origin)

    async def restore(self, job_id: str, *, origin: Origin) -> JobRecord:
        return await self._change(job_id, verbs.restore, "restore", origin)

    async def replay(self, job_id: str, *, origin: Origin) -> JobRecord:
        return await self._change(job_id, lambda job: verbs.replay(job, at=self.clock()), "replay", origin)

    async def delete(self, job_id: str, *, origin: Origin, purge: tuple[str, ...]) -> None:
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

        await self._change(job_id, delete, "delete", origin, check=check)

    async def update(self, job_id: str, request: JobUpdate, *, origin: Origin) -> JobRecord:
        """Change the fields that are given."""
        given = request.model_dump(include=request.model_fields_set)
        if "priority" in given:
            given["priority"] = (await self._priority(request, project=origin.project)).rank

        def update(job: JobRecord) -> JobRecord:
            labels = _relabelled(job, request.labels) if "labels" in given else job.labels
            return replace(job, **given | {"labels": labels}, record_due=True)

        return await self._change(job_id, update, "update", origin)

    async def usage(self, project: str | None, *, since: datetime | None, until: datetime | None) -> Usage:
        """Of a project, or of all, in the last month unless told otherwise."""
        end = until or self.clock()
        begin = since or end - _A_MONTH
        if begin >= end:
            problem = Problem("/query/since", "out_of_range", f"must be before {end.isoformat()}")
            raise InvalidRequest("there is no such time", problems=[problem])
        return await self.store.usage(project, since=begin, until=end)

    async def attempt(self, job: JobRecord, number: int | None) -> AttemptRecord:
        """An attempt of a job, by default the latest."""
        found = await self.store.attempt(job.id, job.attempt if number is None else number)
        if found is None:
            raise AttemptNotFound(f"{job.id} has no attempt {number}; its latest is {job.attempt}")
        return found

    async def attempts(self, job: JobRecord) -> list[tuple[AttemptRecord, contract.Progress | None]]:
        """All of a job, oldest first, and the last word of each; None while the object store is away."""
        found = await self.store.attempts(job.id)
        return list(zip(found, await asyncio.gather(*map(self._last_word, found)), strict=True))

    async def sample(self, job_id: str, images_seen: int | Literal["latest"]) -> bytes:
        """A sample grid as PNG."""
        if images_seen == "latest":
            drawn = await self.objects.samples(job_id)
            if not drawn:
                raise SampleNotFound(f"{job_id} has drawn no samples yet; they come with its checkpoints")
            images_seen = drawn[-1]
        png = await self.objects.sample(job_id, images_seen)
        if png is None:
            raise SampleNotFound(f"{job_id} has no sample grid at {images_seen} images")
        return png

    async def checkpoint(
        self, job_id: str, images_seen: int | Literal["latest"], attempt: int | None
    ) -> tuple[str, contract.CheckpointManifest]:
        """Folder and manifest of a committed checkpoint; by default that of the last attempt that left one there."""
        wanted = None if images_seen == "latest" else images_seen
        found = await self.objects.checkpoint(job_id, images_seen=wanted, attempt=attempt)
        if found is None:
            raise no_such_checkpoint(job_id, images_seen, attempt)
        return found

    async def _last_word(self, attempt: AttemptRecord) -> contract.Progress | None:
        try:
            return await self.objects.progress(attempt.job_id, attempt.number)
        except StorageUnavailable:
            return None

    async def _change(
        self,
        job_id: str,
        verb: verbs.Verb,
        action: str,
        origin: Origin,
        *,
        check: Callable[[AsyncConnection], Awaitable[None]] | None = None,
    ) -> JobRecord:
        """Nothing is changed where `check` raises."""
        while True:  # again if the job moved between being read and being written
            job = await self.find(job_id, project=origin.project)
            check_if_match(origin.if_match, job.event_sequence)
            changed, now = verb(job), self.clock()
            if replace(changed, record_due=job.record_due) == job:
                return job
            event: EventType = "state_changed" if changed.state is not job.state else _EVENTS[action]
            async with self.store.writing() as connection:
                written = await self.store.change(connection, job, changed, events=[event], at=now, actor=origin.actor)
                if written:
                    await record_audit(connection, origin.entry(f"job.{action}", at=now, target=job_id))
                if written and check:
                    await check(connection)
            if written:
                self.measures.moved(job, written, attempt_ended=False)
                log.info("job.asked", action=action, job_id=job_id, state=written.state, actor=origin.actor)
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


def no_such_checkpoint(job_id: str, images_seen: int | Literal["latest"], attempt: int | None) -> CheckpointNotFound:
    """Also of one that was there a moment ago: a training removes old ones (`cadence.keep_last`)."""
    of_attempt = "" if attempt is None else f" of attempt {attempt}"
    if images_seen == "latest":
        return CheckpointNotFound(f"{job_id} has no checkpoint{of_attempt} yet; they come as it trains")
    where = f"no checkpoint{of_attempt} at {images_seen} images, or none any more"
    return CheckpointNotFound(f"{job_id} has {where}: its list says which it keeps")


_EVENTS: dict[str, EventType] = {
    "cancel": "stop_changed",
    "pause": "stop_changed",
    "update": "updated",
    "archive": "archived",
    "restore": "restored",
    "replay": "replay_asked",
    "delete": "deleted",
}
