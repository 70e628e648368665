"""The same training under Ray and under torchrun."""

from tests.benchmarks.runtime.figures import Section, at_most, interleaved, percent, spread
from tests.benchmarks.runtime.jobs import Place, RayJobs, place
from tests.support.ray_head import ray_head
from workers.contract.presets import PRESETS
from workers.contract.spec import TrainSpec, parse_spec

_LIMIT = 0.03
_STEPS = 36
_STEPS_A_ROW = 2

IMAGES_A_STEP = 32  # of each worker

_HOW = """\
The quick start's preset with workers of one thread, {images} images a step for each, is run for {steps} steps as
`python -m workers`, two by `torch.distributed.run`, and as a Ray job, in turn, with the same S3 server and without
MLflow. The speed of a run is the median of its rows of `throughput/images_per_second`, one every two steps without the
first two. Ray's head is started for each Ray run and ended after it, so its own processes, about twenty that idle at
1 % of a core each, run during those runs only. Two workers take both cores and wait for each other in each step; one
leaves a core to Ray, as workers on GPUs do."""


def training_spec(*, workers: int, steps: int) -> TrainSpec:
    """The quick start's preset for a while, with one checkpoint and one quick grid, at its end."""
    document = PRESETS["fashion16"].model_dump(mode="json")
    batch_images = IMAGES_A_STEP * workers
    duration_images = steps * batch_images
    changes = {
        "batch_images": batch_images,
        "duration_images": duration_images,
        "cadence": {"log_images": _STEPS_A_ROW * batch_images, "checkpoint_images": duration_images},
        "compute": {"workers": workers, "accelerator": "cpu"},
        "sampler": document["sampler"] | {"steps": 2},
        "optimizer": document["optimizer"] | {"warmup_images": 0},
    }
    return parse_spec(document | changes)


def engines(repeats: int) -> Section:
    rows, aims = [], []
    for workers in (1, 2):
        found = _compared(workers, repeats)
        lost = [plain / ours - 1 for ours, plain in zip(found["Ray"], found["torchrun"], strict=True)]
        rows.append([str(workers), spread(found["torchrun"], ".1f"), spread(found["Ray"], ".1f"), percent(lost)])
        aims.append(
            at_most(f"a step takes less than 3 % longer under Ray, with workers on {workers} of 2 cores", lost, _LIMIT)
        )
    header = ["workers", "images a second without Ray", "under Ray", "longer under Ray"]
    return Section("Ray beside torchrun", _HOW.format(images=IMAGES_A_STEP, steps=_STEPS), repeats, header, rows, aims)


def _compared(workers: int, repeats: int) -> dict[str, list[float]]:
    spec = training_spec(workers=workers, steps=_STEPS)
    with place() as where:
        variants = {"torchrun": lambda: _under_torchrun(where, spec), "Ray": lambda: _under_ray(where, spec)}
        return interleaved(variants, repeats=repeats)


def _under_torchrun(where: Place, spec: TrainSpec) -> float:
    job = where.job(spec)
    where.run(job, processes=spec.compute.workers)
    return job.rate()


def _under_ray(where: Place, spec: TrainSpec) -> float:
    job = where.job(spec)
    with ray_head(num_cpus=spec.compute.workers, environment=where.environment) as head:
        RayJobs(head).run(job.command)
    return job.rate()
