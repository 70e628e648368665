"""What follows a training in the lowest class: an evaluation for each checkpoint that is due, and, once it and its
control have all of theirs, the comparison of the two.

Which evaluations have been submitted is written down in the transaction that submits, and all ids follow from what is
evaluated or compared, so none is missed and none comes twice, however many replicas look and whoever dies in between.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial

import structlog
from pydantic import ValidationError

from service.database.leases import Replica
from service.errors import CheckpointNotFound, InvalidRequest
from service.identifiers import derived_id
from service.jobs.controls import comparison_id, comparison_request, is_evaluated
from service.jobs.due import alone_if_due, each_due
from service.jobs.objects import JobObjects
from service.jobs.records import JobRecord
from service.jobs.store import JobStore
from service.jobs.submission import Submissions
from service.jobs.views import AT_IMAGES, OF_JOB, EvaluateEach, JobCreate, Priority
from service.web.audit import Requester
from workers.contract.evaluation import EvaluateSpec
from workers.contract.spec import TrainSpec

log = structlog.get_logger()

ACTOR = "service"
_AT_A_TIME = 8  # each lists the checkpoints of its job: however many are due, requests find the store free
# It has been removed to make room; so has a file; an earlier release took a document that is none.
_NEVER_MORE = (CheckpointNotFound, InvalidRequest, ValidationError)


@dataclass(frozen=True, slots=True, kw_only=True)
class FollowUps:
    """Runs beside the other loops."""

    store: JobStore
    objects: JobObjects
    submissions: Submissions
    replica: Replica

    async def tick(self) -> bool | None:
        """Look once, one replica at a time, at all trainings that may have a new checkpoint or are to be compared."""
        finds = self.store.with_evaluations_due, self.store.with_comparison_due
        return await alone_if_due(self.replica, "followups", self._look, *finds)

    async def _look(self) -> None:
        await each_due(self.store.with_evaluations_due, self._follow, at_a_time=_AT_A_TIME, told_as="followup")
        await each_due(self.store.with_comparison_due, self._compare, at_a_time=_AT_A_TIME, told_as="followup")

    async def _follow(self, job: JobRecord) -> None:
        wanted = EvaluateEach.model_validate_json(job.evaluations or "{}")
        for images_seen, made_at in await self._due(job, wanted):
            trained = TrainSpec.model_validate_json(job.spec)
            try:
                spec = wanted.spec_of(trained, job_id=job.id, images_seen=images_seen)
                await self._submit(job, spec, images_seen, at=made_at)
            except _NEVER_MORE as error:
                log.warning("followup.refused", job_id=job.id, images_seen=images_seen, error=str(error))
                await self.store.give_evaluation_up(job, images_seen)
        if job.state.is_terminal:
            await self.store.evaluations_done(job)

    async def _due(self, job: JobRecord, wanted: EvaluateEach) -> list[tuple[int, datetime]]:
        """Images seen at the checkpoints that are to be evaluated now, and when each was made."""
        which = partial(due, wanted=wanted, evaluated=job.evaluated_images, has_ended=job.state.is_terminal)
        if not which(await self.objects.checkpoint_images(job.id)):  # most of the time; then no manifest is read
            return []
        there = await self.objects.checkpoints(job.id, above=job.evaluated_images)
        made_at = {each.images_seen: each.created_at for _, each in there}
        return [(images_seen, made_at[images_seen]) for images_seen in which(sorted(made_at))]

    async def _submit(self, job: JobRecord, spec: EvaluateSpec, images_seen: int, *, at: datetime) -> None:
        create = JobCreate(
            name=f"{job.name[:80]} at {images_seen:,}" if job.name else None,
            spec=spec,
            priority=Priority.LOW,
        ).model_copy(update={"labels": {OF_JOB: job.id, AT_IMAGES: str(images_seen)}})
        job_id = derived_id("job", at=at, of=f"{job.id} at {images_seen}")
        await self.submissions.submit(create, requester=_requester(job), job_id=job_id, follows=job.id)
        log.info("followup.submitted", job_id=job.id, images_seen=images_seen, evaluation=job_id)

    async def _compare(self, job: JobRecord) -> None:
        control = await self.store.find(job.control_job_id or "")
        if control is None or control.deleted_at:
            await self.store.comparison_done(job)
            return
        pair, ids = (job, control), [job.id, control.id]
        if not all(map(is_evaluated, pair)) or await self.store.labelled_unfinished(job.project, OF_JOB, ids):
            return
        job_id = comparison_id(job, at=max(one.ended_at or one.created_at for one in pair))
        await self.submissions.submit(comparison_request(job, control), requester=_requester(job), job_id=job_id)
        await self.store.comparison_done(job)  # whoever dies before this finds the same comparison at the next look
        log.info("followup.submitted", job_id=job.id, control=control.id, comparison=job_id)


def _requester(job: JobRecord) -> Requester:
    return Requester(
        actor=ACTOR,
        owner=job.owner,
        owner_name=job.owner_name,
        project=job.project,
        method="",
        path="",
        request_id="",
        client=None,
    )


def due(there: Sequence[int], wanted: EvaluateEach, *, evaluated: int, has_ended: bool) -> list[int]:
    """Which checkpoints are to be evaluated now: the first behind each multiple, and the last of all."""
    found = []
    for images_seen in there:
        if images_seen <= evaluated:
            continue
        every, is_last = wanted.every_images or 1, has_ended and images_seen == there[-1]
        if is_last or images_seen // every > evaluated // every:
            found.append(images_seen)
            evaluated = images_seen
    return found
