"""What can be said of a job before it is submitted: what it may take, by what jobs took that cost the same, and what
whoever submits it may want to know first."""

import hashlib
import json
import statistics
from collections.abc import Sequence

from service.cluster import Cluster
from service.cluster.base import ClusterUnreachable
from service.jobs.lookup import JobLookup
from service.jobs.planning_views import Estimate
from service.jobs.queueing import Quota
from service.jobs.records import JobRecord
from service.jobs.views import JobCreate
from workers.contract.document import Document
from workers.contract.jobs import AnySpec
from workers.contract.model import ExponentialMovingAverage
from workers.contract.spec import TrainSpec

_DECIDE_SPEED = {
    *("kind", "dataset", "augmentation", "network", "preconditioning", "objective", "ema", "compute", "batch_images"),
    *("checkpoint", "weights", "sampler", "pass_images", "features"),
}


def cost_key(spec: AnySpec) -> str:
    """Equal for jobs whose steps cost the same on the same hardware."""
    document = spec.model_dump(mode="json", include=_DECIDE_SPEED)
    for part, name in (("dataset", "path"), ("checkpoint", "images_seen"), ("features", "weights")):
        (document.get(part) or {}).pop(name, None)  # where it lies costs nothing
    return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()


def estimate(spec: AnySpec, like: Sequence[JobRecord], *, from_images: int = 0) -> Estimate:
    """From the latest jobs that cost the same; figures of one kind of device are not mixed with another's."""
    seen = [job.progress for job in like if job.progress and job.progress.images_per_second]
    device = seen[0].device if seen else None
    runs = [progress for progress in seen if progress.device == device]
    if not runs:
        basis = "no like job has been seen to run yet: its first run will be the basis"
        return Estimate(images_per_second=None, seconds=None, peak_memory_bytes=None, basis=basis)
    rate = statistics.median(progress.images_per_second for progress in runs)
    memory = [progress.peak_memory_bytes for progress in runs if progress.peak_memory_bytes]
    count = "1 like job" if len(runs) == 1 else f"the latest {len(runs)} like jobs"
    return Estimate(
        images_per_second=rate,
        seconds=(spec.total_images - from_images) / rate if spec.total_images else None,
        peak_memory_bytes=max(memory, default=None),
        basis=f"{count}, {spec.compute.workers} x {device or 'unknown device'}; start-up and checkpoints not counted",
    )


async def warnings(
    job: JobRecord, request: JobCreate, expected: Estimate, *, store: JobLookup, cluster: Cluster
) -> tuple[str, ...]:
    """What the user may want to know first. Nothing here forbids anything."""
    said = [*_about_time(job, expected), *await _about_room(job, cluster), *_about_average(request.spec)]
    if request.control:
        said.append("its control is a second training of as many images; the estimate is of the first alone")
    twins = await store.twins(job.project, job.spec_sha256)
    if twins:
        said.append(
            f"exactly this document is already run by {' and '.join(twins)}; with the same seed it will end the same"
        )
    most = (await store.quotas()).get(job.project, Quota()).max_workers
    if most is not None and job.workers > most:
        said.append(
            f"the quota of {job.project} is {most} in workers: this job, with {job.workers}, would wait for ever"
        )
    return tuple(said)


def _about_time(job: JobRecord, expected: Estimate) -> list[str]:
    limit, seconds = job.max_runtime_seconds, expected.seconds
    if limit and seconds and seconds > limit:
        return [f"like jobs would take {seconds:.0f} s: with max_runtime_seconds at {limit:g} it would be ended before"]
    return []


def _about_average(spec: Document) -> list[str]:
    """Not refused: short tries of long trainings would have to change it."""
    if not isinstance(spec, TrainSpec) or spec.initial_weights or not isinstance(spec.ema, ExponentialMovingAverage):
        return []
    had, longest = spec.ema.halflife_images, int(spec.ema.rampup_ratio * spec.duration_images)
    if had <= longest:
        return []
    reason = "it is at most ema.rampup_ratio of the images seen"
    return [f"ema.halflife_images ({had}) is never reached: {reason}, and ends at {longest}"]


async def _about_room(job: JobRecord, cluster: Cluster) -> list[str]:
    try:
        capacity = await cluster.capacity()
    except ClusterUnreachable as error:
        return [f"the engine does not answer ({error}): the job would wait until it does"]
    there = capacity.total.of(job.accelerator)
    if job.workers > there:
        lack = f"it needs {job.workers} {job.accelerator} workers, and all nodes together have room for {there:g}"
        return [f"{lack}: set compute.workers or compute.accelerator, or it waits for more nodes"]
    return []
