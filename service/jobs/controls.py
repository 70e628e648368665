"""The control of a training: its twin by denoising score matching alone, and the comparison that follows both."""

from datetime import datetime

from service.identifiers import derived_id, sibling_id
from service.jobs.lifecycle import JobState
from service.jobs.records import JobRecord
from service.jobs.views import COMPARES, CONTROL_OF, JobCreate, Priority
from workers.contract.comparing import CompareSpec
from workers.contract.spec import TrainSpec


def control_id(job_id: str) -> str:
    """Of the control of a job: a request that is repeated after a crash makes the same two."""
    return sibling_id(job_id, of="control")


def comparison_id(job: JobRecord, *, at: datetime) -> str:
    return derived_id("job", at=at, of=f"{job.id} comparison")


def control_request(request: JobCreate, spec: TrainSpec, *, of: str) -> JobCreate:
    """The same training without its consistency term: seed and images decide data order and noise, so both share them.

    Args:
        request: the one that wants a control
        spec: its document with nothing left open
        of: the job that the control belongs to
    """
    return request.model_copy(
        update={
            "name": f"{request.name[:90]} control" if request.name else None,
            "spec": spec.model_copy(update={"objective": spec.objective.model_copy(update={"consistency": None})}),
            "labels": {**request.labels, CONTROL_OF: of},
            "control": None,
        }
    )


def comparison_request(job: JobRecord, control: JobRecord) -> JobCreate:
    request = JobCreate(
        name=f"{job.name[:80]} beside control" if job.name else None,
        spec=CompareSpec(kind="compare", job_id=job.id, control_job_id=control.id),
        priority=Priority.LOW,
    )
    return request.model_copy(update={"labels": {COMPARES: job.id}})


def is_evaluated(job: JobRecord) -> bool:
    """Whether it has ended as hoped, and all its evaluations are submitted."""
    return job.state is JobState.SUCCEEDED and not job.evaluations_due
