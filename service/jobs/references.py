"""What a job document refers to: looked up when it is submitted, and written into it."""

import asyncio
import json
from dataclasses import dataclass, replace
from typing import assert_never

from service.errors import InvalidRequest
from service.jobs.lookup import JobLookup
from service.jobs.objects import JobObjects
from service.jobs.records import JobRecord
from service.jobs.views import JobCreate
from workers.contract.comparing import CompareSpec
from workers.contract.data import DatasetManifest, ImportedDataset
from workers.contract.document import Problem, read_leniently
from workers.contract.evaluation import EvaluateSpec, held_out_problem
from workers.contract.importing import ImportSpec
from workers.contract.jobs import AnySpec
from workers.contract.keys import JOBS
from workers.contract.records import CheckpointRef
from workers.contract.sampling import CheckpointSource, SampleSpec, Subject
from workers.contract.spec import TrainSpec
from workers.storage import key_in


@dataclass(frozen=True, slots=True)
class ResolvedSpec:
    """A document with nothing left open, the checkpoint that it needs, and the ids of uploads that are read for it."""

    spec: AnySpec
    source: CheckpointRef | None = None
    upload_ids: tuple[str, ...] = ()


async def resolve(spec: AnySpec, *, project: str, store: JobLookup, objects: JobObjects) -> ResolvedSpec:
    """Look everything up but uploads.

    Raises:
        InvalidRequest: something is not there, or is another project's.
    """
    match spec:
        case SampleSpec() | EvaluateSpec():
            await _require_images(spec, objects=objects)
            if spec.checkpoint is None:
                await _require_own_weights(spec.weights, "/spec/weights", project=project, store=store, objects=objects)
                return ResolvedSpec(spec)
            source = await _source(spec, spec.checkpoint, project=project, store=store, objects=objects)
            checkpoint = spec.checkpoint.model_copy(
                update={"images_seen": source.images_seen, "attempt": source.attempt}
            )
            return ResolvedSpec(spec.model_copy(update={"checkpoint": checkpoint}), source)
        case CompareSpec():
            for field in ("job_id", "control_job_id"):
                await _training(getattr(spec, field), f"/spec/{field}", project=project, store=store)
            return ResolvedSpec(spec)
        case TrainSpec():
            await _require_images(spec, objects=objects)
            pointer = "/spec/initial_weights"
            await _require_own_weights(spec.initial_weights, pointer, project=project, store=store, objects=objects)
            return ResolvedSpec(spec)
        case ImportSpec():
            return ResolvedSpec(spec)
        case _:
            assert_never(spec)


def imported_digest(spec: AnySpec) -> str | None:
    """Of the image set that a document names, if it names one."""
    match spec:
        case TrainSpec(dataset=ImportedDataset(digest=digest)) | EvaluateSpec(dataset=ImportedDataset(digest=digest)):
            return digest
        case EvaluateSpec(held_out=digest):
            return digest
        case _:
            return None


def checkpoint_of(job: JobRecord) -> CheckpointRef | None:
    """The checkpoint that a job draws from, if any. No more of its document is read, which may be an old one."""
    if job.kind not in {"sample", "evaluate"}:
        return None
    checkpoint = json.loads(job.spec)["checkpoint"]
    if checkpoint is None:
        return None
    return CheckpointRef(
        job_id=job.parent_job_id or "", **{name: checkpoint[name] for name in ("images_seen", "attempt")}
    )


async def _require_images(spec: AnySpec, *, objects: JobObjects) -> None:
    digest = imported_digest(spec)
    pointer = "/spec/held_out" if isinstance(spec, EvaluateSpec) and spec.held_out else "/spec/dataset/digest"
    if digest and not await objects.has_dataset(digest):
        raise _refused(pointer, _no_image_set(digest))


async def _require_own_weights(
    location: str | None, pointer: str, *, project: str, store: JobLookup, objects: JobObjects
) -> None:
    """Weights in the store of the service are a job's, which must be of this project: what comes of them shows them."""
    if location is None:
        return
    key = await asyncio.to_thread(key_in, location, objects.url)
    if key is None:
        return
    job_id = key.removeprefix(JOBS).partition("/")[0] if key.startswith(JOBS) else ""
    job = await store.find(job_id, project=project)
    if job is None or job.deleted_at:
        raise _refused(pointer, "lies in the store of the service, and in no job of this project")


async def _source(
    spec: SampleSpec | EvaluateSpec, wanted: CheckpointSource, *, project: str, store: JobLookup, objects: JobObjects
) -> CheckpointRef:
    """The checkpoint at these images, or the newest; of two attempts' the later."""
    job = await _training(wanted.job_id, "/spec/checkpoint/job_id", project=project, store=store)
    found = await objects.checkpoint(job.id, images_seen=wanted.images_seen, attempt=wanted.attempt)
    if found is None:
        there = sorted({*await objects.checkpoint_images(job.id)})
        has = f"it has them at {', '.join(map(str, there[-8:]))}" if there else "it has none yet"
        raise _refused("/spec/checkpoint/images_seen", f"{job.id} has no such checkpoint: {has}")
    await _require_fitting(spec, job, objects)
    _, manifest = found
    return CheckpointRef(job_id=job.id, images_seen=manifest.images_seen, attempt=manifest.attempt)


async def _require_fitting(spec: SampleSpec | EvaluateSpec, training: JobRecord, objects: JobObjects) -> None:
    """Raises InvalidRequest, naming what a network of this training cannot draw, and images that do not suit it."""
    trained = read_leniently(TrainSpec, training.spec.encode())
    if trained is None:
        return
    images = await objects.dataset(training.id)
    problems = spec.problems_with(Subject.of(training.id, trained, images))
    if images and isinstance(spec, EvaluateSpec) and (others := await _held_out(spec, objects)):
        reason = held_out_problem(others, images, by_classes=trained.network.class_conditional)
        problems += [Problem("/held_out", "not_comparable", reason)] if reason else []
    if problems:
        found = [replace(each, pointer=f"/spec{each.pointer}") for each in problems]
        raise InvalidRequest(f"the job does not fit {training.id}", problems=found)


async def _held_out(spec: EvaluateSpec, objects: JobObjects) -> DatasetManifest | None:
    return await objects.dataset_manifest(spec.held_out) if spec.held_out else None


async def evaluation_problems(request: JobCreate, *, objects: JobObjects) -> list[Problem]:
    """Why nothing can be measured at the held-out images of the evaluations that are to follow a training."""
    digest = request.evaluations.held_out if request.evaluations else None
    if digest is None or not isinstance(request.spec, TrainSpec):
        return []
    others = await objects.dataset_manifest(digest)
    if others is None:
        return [Problem("/evaluations/held_out", "not_found", _no_image_set(digest))]
    dataset = request.spec.dataset
    seen = await objects.dataset_manifest(dataset.digest) if isinstance(dataset, ImportedDataset) else None
    if seen is None:  # what is still to be imported is compared when an evaluation begins
        return []
    reason = held_out_problem(others, seen, by_classes=request.spec.network.class_conditional)
    return [Problem("/evaluations/held_out", "not_comparable", reason)] if reason else []


def _no_image_set(digest: str) -> str:
    return f"there is no image set {digest}; an import job says the digest of its own"


async def _training(job_id: str, pointer: str, *, project: str, store: JobLookup) -> JobRecord:
    job = await store.find(job_id, project=project)
    if job is None or job.deleted_at:
        raise _refused(pointer, f"there is no job {job_id}")
    if job.kind != "train":
        raise _refused(pointer, f"{job.id} is a job of kind {job.kind}, which has no checkpoints")
    return job


def _refused(pointer: str, reason: str) -> InvalidRequest:
    return InvalidRequest("the job refers to what is not there", problems=[Problem(pointer, "not_found", reason)])
