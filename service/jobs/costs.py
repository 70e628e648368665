"""What a job may take: by what jobs took that cost the same."""

import hashlib
import json
import statistics
from collections.abc import Sequence

from service.jobs.planning_views import Estimate
from service.jobs.records import JobRecord
from workers.contract.jobs import AnySpec

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
