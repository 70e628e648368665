"""Records as clients see them."""

import json
from dataclasses import asdict

from service.jobs import result_views, views
from service.jobs.objects import JobObjects
from service.jobs.planning_views import QueueEntry
from service.jobs.records import AttemptRecord, EventRecord, JobRecord, QueuedJob
from service.jobs.verbs import allowed
from service.priorities import Priority
from workers.contract.records import CheckpointManifest, Progress

_PARTS = ("attempts", "events", "logs", "metrics", "checkpoints", "samples", "evaluations", "files")
_AS_TRAINING = "?workflowType=machine_learning"  # else MLflow shows the run among evaluations of chats


def job_view(job: JobRecord, *, mlflow_url: str, queue_position: int | None = None) -> views.Job:
    """Nothing is checked again: its documents were when they came, and those of a later release are shown, too.

    Args:
        mlflow_url: where browsers find MLflow
        queue_position: 1 = next; None = not queued, or not asked for
    """
    page = f"{mlflow_url.rstrip('/')}/#/experiments/{job.mlflow_experiment_id}/runs/{job.mlflow_run_id}{_AS_TRAINING}"
    this = f"/v1/jobs/{job.id}"
    parent = views.Parent(job_id=job.parent_job_id, images_seen=job.parent_images or 0) if job.parent_job_id else None
    fields = {
        "id": job.id,
        "project": job.project,
        "name": job.name,
        "labels": dict(job.labels),
        "priority": Priority.of_rank(job.priority),
        "max_runtime_seconds": job.max_runtime_seconds,
        "state": job.state,
        "reason": job.reason,
        "message": job.message,
        "queue_position": queue_position,
        "evaluations": json.loads(job.evaluations) if job.evaluations else None,
        "control_job_id": job.control_job_id,
        "dataset_digest": job.dataset or None,
        "unclean": job.unclean,
        "spec": json.loads(job.spec),
        "spec_sha256": job.spec_sha256,
        "parent": parent,
        "created_at": job.created_at,
        "created_by": job.owner,
        "created_by_name": job.owner_name,
        "queued_at": job.queued_at,
        "started_at": job.started_at,
        "ended_at": job.ended_at,
        "archived_at": job.archived_at,
        "attempt": job.attempt,
        "progress": job.progress,
        "mlflow_url": page if job.mlflow_experiment_id else None,
        "conditions": _conditions(job),
        "allowed": allowed(job),
        "links": {"self": this, **{name: f"{this}/{name}" for name in _PARTS}},
    }
    return views.Job.model_construct(None, **fields)


def _conditions(job: JobRecord) -> tuple[views.Condition, ...]:
    if not job.state.is_active:
        return ()
    return tuple(
        views.Condition(type=kind, status=one.status, message=one.message, since=one.since)
        for kind, one in sorted(job.conditions.items())
    )


def queue_entry(job: QueuedJob, *, position: int) -> QueueEntry:
    return QueueEntry(
        id=job.id,
        project=job.project,
        kind=job.kind,
        name=job.name,
        created_by=job.owner,
        created_by_name=job.owner_name,
        priority=Priority.of_rank(job.priority),
        accelerator=job.accelerator,
        workers=job.workers,
        queued_at=job.queued_at or job.created_at,
        queue_position=position,
        reason=job.reason,
        message=job.message,
    )


def attempt_view(attempt: AttemptRecord, progress: Progress | None) -> result_views.Attempt:
    told = {"ledger": progress.ledger, "versions": progress.versions} if progress else {"ledger": None}
    return result_views.Attempt.model_validate(asdict(attempt) | told)


def event_view(event: EventRecord) -> result_views.Event:
    return result_views.Event.model_validate(event, from_attributes=True)


def checkpoint_view(folder: str, manifest: CheckpointManifest, *, objects: JobObjects) -> result_views.Checkpoint:
    return result_views.Checkpoint(
        images_seen=manifest.images_seen,
        attempt=manifest.attempt,
        created_at=manifest.created_at,
        uri=objects.uri(folder),
        num_bytes=sum(file.num_bytes for file in manifest.files),
        files=manifest.files,
    )
