"""Records as clients see them."""

from service.jobs import views
from service.jobs.objects import JobObjects
from service.jobs.records import EventRecord, JobRecord
from workers.contract.records import CheckpointManifest
from workers.contract.spec import TrainSpec


def job_view(job: JobRecord, *, mlflow_url: str) -> views.Job:
    """`mlflow_url` is where browsers find MLflow."""
    page = f"{mlflow_url.rstrip('/')}/#/experiments/{job.mlflow_experiment_id}/runs/{job.mlflow_run_id}"
    this = f"/v1/jobs/{job.id}"
    links = {name: f"{this}/{name}" for name in ("events", "logs", "checkpoints", "samples")}
    return views.Job(
        id=job.id,
        name=job.name,
        state=job.state,
        reason=job.reason,
        message=job.message,
        spec=TrainSpec.model_validate_json(job.spec),
        spec_sha256=job.spec_sha256,
        created_at=job.created_at,
        started_at=job.started_at,
        ended_at=job.ended_at,
        attempt=job.attempt,
        progress=job.progress,
        mlflow_url=page if job.mlflow_experiment_id else None,
        conditions=_conditions(job),
        links={"self": this, **links},
    )


def _conditions(job: JobRecord) -> tuple[views.Condition, ...]:
    if job.backend_reachable is None or job.backend_since is None or job.state.is_terminal:
        return ()
    reachable = views.Condition(
        type="BackendReachable",
        status=job.backend_reachable,
        message=job.backend_message,
        since=job.backend_since,
    )
    return (reachable,)


def event_view(event: EventRecord) -> views.Event:
    return views.Event(
        sequence=event.sequence,
        type=event.type,
        state=event.state,
        attempt=event.attempt,
        reason=event.reason,
        message=event.message,
        created_at=event.created_at,
    )


def checkpoint_view(folder: str, manifest: CheckpointManifest, *, objects: JobObjects) -> views.Checkpoint:
    return views.Checkpoint(
        images_seen=manifest.images_seen,
        attempt=manifest.attempt,
        created_at=manifest.created_at,
        uri=objects.uri(f"{folder}/"),
        num_bytes=sum(file.num_bytes for file in manifest.files),
        files=manifest.files,
    )
