"""How jobs come into being: looked through, written down, forked."""

import asyncio
import hashlib
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TypeVar, cast

import structlog
from sqlalchemy.ext.asyncio import AsyncConnection

from service.clock import Clock
from service.cluster import Cluster
from service.errors import CheckpointNotFound, InvalidRequest, StorageUnavailable
from service.identifiers import new_id
from service.jobs import forks, verbs
from service.jobs.controls import control_id, control_request
from service.jobs.files import place_problems, request_problems, upload_ids, upload_problems
from service.jobs.installation import Installation
from service.jobs.lifecycle import JobState
from service.jobs.objects import JobObjects
from service.jobs.pins import pin
from service.jobs.planning_views import Plan
from service.jobs.plans import cost_key, estimate, warnings
from service.jobs.priorities import allowed_priority
from service.jobs.rebuild import record_of
from service.jobs.records import JobRecord
from service.jobs.references import ResolvedSpec, evaluation_problems, imported_digest, resolve
from service.jobs.store import JobStore, mark_evaluated, require_kept
from service.jobs.views import Change, ForkCreate, ForkSource, JobCreate
from service.uploads.objects import UploadObjects
from service.web.audit import AuditEntry, Requester, record_audit
from workers.contract import records as contract
from workers.contract.curves import best_checkpoint
from workers.contract.document import Problem
from workers.contract.jobs import AnySpec
from workers.contract.spec import TrainSpec

log = structlog.get_logger()

_Request = TypeVar("_Request", JobCreate, ForkCreate)
_LONGEST_DOCUMENT = 64 << 10  # a page of a list has 200 of them


@dataclass(frozen=True, slots=True, kw_only=True)
class Submissions:
    """How jobs are made; `wake` is called with each that was. One of another project is not found."""

    store: JobStore
    objects: JobObjects
    installation: Installation
    cluster: Cluster
    clock: Clock
    wake: Callable[[JobRecord], None]
    local_paths: bool
    uploads: UploadObjects
    s3_sources: Sequence[str] = ()

    async def submit(
        self,
        request: JobCreate,
        *,
        requester: Requester,
        job_id: str | None = None,
        follows: str | None = None,
    ) -> JobRecord:
        """Write a job down, to be run when its turn comes. A `job_id` that is there already is that job.

        `follows`: the training whose checkpoint this one evaluates, and which has kept the uploads that it names. That
        the checkpoint has its evaluation is written down with it.
        """
        if job_id and (made := await self.store.find(job_id, project=requester.project)):
            return made  # the request was repeated
        await self.installation.id()  # nothing is written into the store of another
        request = await self._with_priority(request, project=requester.project)
        resolved = await self._resolved(request, project=requester.project, follows=follows)
        source = resolved.source
        job = self._new_job(request, resolved.spec, requester, job_id=job_id)
        if follows is None:  # what follows a training was bounded with it
            _require_short(job)
        await self._keep_uploads(resolved, job_id=job.id)
        if request.control:
            control = await self._control(job, request, resolved, requester)
            return await self._create(
                replace(job, control_job_id=control.id, comparison_due=True), requester, control=control
            )
        if source is None:
            return await self._create(job, requester)
        await pin(self.objects, source, at=self.clock(), job_id=job.id)
        job = replace(job, parent_job_id=source.job_id, parent_images=source.images_seen)
        return await self._create(job, requester, reads=source.job_id, evaluated=source if follows else None)

    async def plan(self, request: JobCreate, *, requester: Requester) -> Plan:
        """What would become of a job; nothing is written down."""
        request = await self._with_priority(request, project=requester.project)
        spec = (await self._resolved(request, project=requester.project)).spec
        return await self._planned(self._new_job(request, spec, requester, job_id=None), request, spec)

    async def plan_fork(self, job_id: str, request: ForkCreate, *, requester: Requester) -> Plan:
        """What would become of a fork; nothing is written down."""
        parent = await self.store.get(job_id, project=requester.project)
        verbs.require(parent, "fork")
        request = await self._with_priority(request, project=requester.project)
        source = await self._fork_origin(parent, request.source, None)
        create, _ = await self._fork_request(parent, request, source)
        job = self._forked_job(create, source, requester, job_id=None)
        return await self._planned(job, create, create.spec)

    async def _planned(self, job: JobRecord, request: JobCreate, spec: AnySpec) -> Plan:
        _require_short(job)
        like = await self.store.like(job.cost_key or "")
        expected = estimate(spec, like, from_images=job.evaluated_images)
        return Plan(
            spec=spec,
            spec_sha256=job.spec_sha256,
            queue_position=await self.store.ahead(job) + 1,
            estimate=expected,
            warnings=await warnings(job, request, expected, store=self.store, cluster=self.cluster),
        )

    async def fork(
        self, job_id: str, request: ForkCreate, *, requester: Requester, new_job_id: str | None = None
    ) -> tuple[JobRecord, tuple[Change, ...]]:
        """A new job that goes on from a checkpoint of this one, and in what its document differs."""
        parent = await self.store.get(job_id, project=requester.project)
        verbs.require(parent, "fork")
        before = forks.read_spec(parent)
        if new_job_id and (made := await self.store.find(new_job_id, project=requester.project)):  # it was repeated
            return made, forks.changes(before, forks.read_spec(made))
        await self.installation.id()
        request = await self._with_priority(request, project=requester.project)
        source = await self._fork_origin(parent, request.source, new_job_id)
        create, resolved = await self._fork_request(parent, request, source)
        job = self._forked_job(create, source, requester, job_id=new_job_id)
        _require_short(job)
        await self._keep_uploads(resolved, job_id=job.id)
        await pin(self.objects, source, at=self.clock())
        if await self.objects.save_origin(job.id, source) != source:  # the same request was quicker, and chose another
            return await self.fork(job_id, request, requester=requester, new_job_id=job.id)
        created = await self._create(job, requester, reads=parent.id)
        log.info("job.forked", job_id=job.id, parent=parent.id, checkpoint=source.images_seen)
        return created, forks.changes(before, forks.read_spec(job))

    async def _fork_request(
        self, parent: JobRecord, request: ForkCreate, source: contract.CheckpointRef
    ) -> tuple[JobCreate, ResolvedSpec]:
        """The request for the job that a fork is, and what that refers to."""
        spec = forks.forked_spec(forks.read_spec(parent), request.overrides, images_seen=source.images_seen)
        create = forks.forked_request(request, spec, of=parent)
        # It starts from a checkpoint: what weights that once began from is on record, and nobody reads them again.
        read = create.model_copy(update={"spec": spec.model_copy(update={"initial_weights": None})})
        try:
            return create, await self._resolved(read, project=parent.project)
        except InvalidRequest as error:
            raise forks.explained(error, request) from None

    def _forked_job(
        self, create: JobCreate, source: contract.CheckpointRef, requester: Requester, *, job_id: str | None
    ) -> JobRecord:
        return replace(
            self._new_job(create, create.spec, requester, job_id=job_id),
            parent_job_id=source.job_id,
            parent_images=source.images_seen,
            evaluated_images=source.images_seen,
        )

    async def _fork_origin(self, parent: JobRecord, wanted: ForkSource, job_id: str | None) -> contract.CheckpointRef:
        """Where a fork of this id starts: from what its workers would find, if an earlier request has come so far."""
        if job_id and (origin := await self.objects.origin(job_id)):
            return origin
        for images_seen in await self._fitting(parent, wanted):
            if found := await self.objects.checkpoint(parent.id, images_seen=images_seen, attempt=None):
                return contract.CheckpointRef(job_id=parent.id, images_seen=images_seen, attempt=found[1].attempt)
        raise CheckpointNotFound(f"{parent.id} has no such checkpoint of which no file is missing")

    async def _fitting(self, job: JobRecord, wanted: ForkSource) -> list[int]:
        """Images seen at the checkpoints that it may start from, the first choice first; no manifest is read."""
        limit = wanted.images_seen
        found = sorted({*await self.objects.checkpoint_images(job.id)})
        fitting = [images_seen for images_seen in found if limit is None or images_seen <= limit]
        if not fitting:
            raise CheckpointNotFound(f"{job.id} has no such checkpoint: {forks.what_there_is(job, found)}")
        if wanted.best is None:
            return fitting[::-1]
        best = best_checkpoint(wanted.best, await self.objects.evaluations(job.id), among=fitting)
        if best is None:
            raise CheckpointNotFound(f"{job.id} has no curve {wanted.best} at its checkpoints: see its metrics")
        return [best]

    async def _resolved(self, request: JobCreate, *, project: str, follows: str | None = None) -> ResolvedSpec:
        """Raises InvalidRequest, naming every path and everything else it refers to that is not there."""
        problems = await asyncio.to_thread(  # of a store in a folder, whose file system may take its time
            place_problems, request, store_url=self.objects.url, s3_sources=self.s3_sources
        )
        if self.local_paths:
            problems += await asyncio.to_thread(request_problems, request)
        problems += await upload_problems(
            request, project=project, uploads=self.uploads, now=self.clock(), held_by=follows
        )
        problems += await evaluation_problems(request, objects=self.objects)
        try:
            resolved = await resolve(request.spec, project=project, store=self.store, objects=self.objects)
        except InvalidRequest as error:
            raise InvalidRequest(error.detail, problems=[*problems, *error.problems]) from None
        if problems:
            raise InvalidRequest("the job names files or images that cannot be used", problems=problems)
        return replace(resolved, upload_ids=upload_ids(request))

    async def _keep_uploads(self, resolved: ResolvedSpec, *, job_id: str) -> None:
        for upload_id in resolved.upload_ids:
            await self.uploads.pin(upload_id, job_id)

    async def _with_priority(self, request: _Request, *, project: str) -> _Request:
        return request.model_copy(
            update={"priority": await allowed_priority(request, project=project, store=self.store)}
        )

    def _new_job(self, request: JobCreate, spec: AnySpec, requester: Requester, *, job_id: str | None) -> JobRecord:
        now = self.clock()
        document = spec.model_dump_json()
        return JobRecord(
            id=job_id or new_id("job", at=now),
            project=requester.project,
            owner=requester.owner,
            owner_name=requester.owner_name,
            name=request.name,
            labels=request.labels,
            priority=request.priority.rank,
            max_runtime_seconds=request.max_runtime_seconds,
            spec=document,
            spec_sha256=hashlib.sha256(document.encode()).hexdigest(),
            kind=spec.kind,
            cost_key=cost_key(spec),
            accelerator=spec.compute.accelerator,
            workers=spec.compute.workers,
            evaluations=request.evaluations.model_dump_json() if request.evaluations else None,
            evaluations_due=request.evaluations is not None,
            dataset=imported_digest(spec),
            state=JobState.QUEUED,
            created_at=now,
            queued_at=now,
        )

    async def _control(
        self, job: JobRecord, request: JobCreate, resolved: ResolvedSpec, requester: Requester
    ) -> JobRecord:
        wanted = control_request(request, cast(TrainSpec, resolved.spec), of=job.id)
        control = self._new_job(wanted, wanted.spec, requester, job_id=control_id(job.id))
        await self._keep_uploads(resolved, job_id=control.id)
        return control

    async def _create(
        self,
        job: JobRecord,
        requester: Requester,
        *,
        control: JobRecord | None = None,
        reads: str | None = None,
        evaluated: contract.CheckpointRef | None = None,
    ) -> JobRecord:
        """The documents first, without which a row could not run, and the copies last: `rebuild` makes a job of each.

        It comes with its `control`, if the job that it `reads` stays, and with what it says of a checkpoint: or not at
        all.
        """
        new = [control, job] if control else [job]
        for one in new:
            await self.objects.save_spec(one.id, one.spec.encode())
        async with self.store.writing() as connection:
            if created := await self._insert(connection, job, requester):
                if control:
                    await self._insert(connection, control, requester)
                if evaluated:
                    await mark_evaluated(connection, evaluated.job_id, evaluated.images_seen)
                if reads:
                    await require_kept(connection, reads)
        if created is None:
            return await self._already_made(job.id, requester)
        for one in new:
            await self._copy(one)
        log.info("job.submitted", job_id=job.id, project=job.project, control=job.control_job_id)
        self.wake(created)
        return created

    async def _insert(self, connection: AsyncConnection, job: JobRecord, requester: Requester) -> JobRecord | None:
        created = await self.store.insert(connection, job, actor=requester.actor)
        if created:
            await record_audit(connection, _entry(job, requester))
        return created

    async def _copy(self, job: JobRecord) -> None:
        """Before anybody is told of the job. Where the store fails, the copy follows, as after every change."""
        with suppress(StorageUnavailable):
            await self.objects.save_first_record(job.id, record_of(replace(job, event_sequence=1), []))

    async def _already_made(self, job_id: str, requester: Requester) -> JobRecord:
        """What the same request made at the same time, with its own document: the one just saved may be another."""
        made = await self.store.get(job_id, project=requester.project)
        await self.objects.save_spec(made.id, made.spec.encode())
        return made


def _require_short(job: JobRecord) -> None:
    """Raises InvalidRequest: its document and that of its evaluations are too long together."""
    spec, evaluations = len(job.spec), len(job.evaluations or "")
    if (together := spec + evaluations) > _LONGEST_DOCUMENT:
        pointer, which = (
            ("/evaluations", "with its spec ") if evaluations > spec else ("/spec", "with its evaluations ")
        )
        reason = f"has {which if evaluations else ''}{together} characters and may have {_LONGEST_DOCUMENT}"
        problem = Problem(pointer, "too_long", f"{reason}: shorten its longest list")
        raise InvalidRequest("the document is too long", problems=[problem])


def _entry(job: JobRecord, requester: Requester) -> AuditEntry:
    return requester.entry("job.create", at=job.created_at, target=job.id, status=201, after=job.spec)
