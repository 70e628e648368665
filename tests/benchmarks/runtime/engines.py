"""The same training under Ray and under torchrun."""

from tests.benchmarks.runtime.figures import Section, at_most, interleaved, percent, spread
from tests.benchmarks.runtime.jobs import Place, RayJobs, place
from tests.support.ray_head import ray_head
from workers.contract.presets import PRESETS
from workers.contract.spec import TrainSpec, parse_spec

_LIMIT = 0.03
_DURATION_IMAGES = 2304
_LOG_IMAGES = 128
_WORKERS = 2

_HOW = """\
The quick start's preset with {workers} workers of one thread, {duration:,} images of it, is run as `python -m
workers` by `torch.distributed.run` and as a Ray job, in turn, with the same S3 server and without MLflow. Each run
says by the median of its rows of `throughput/images_per_second`, one every {log} images and the first two left out,
how fast it was. Ray's head is started for each of its runs and ended after it, so its own processes run beside
training there and only there."""


def training_spec(*, workers: int, batch_images: int, duration_images: int) -> TrainSpec:
    """The quick start's preset for a while, with one checkpoint and one quick grid, at its end."""
    document = PRESETS["fashion16"].model_dump(mode="json")
    share = batch_images / document["batch_images"]
    cadence = {"log_images": round(_LOG_IMAGES * share), "checkpoint_images": duration_images}
    changes = {
        "batch_images": batch_images,
        "duration_images": duration_images,
        "cadence": cadence,
        "compute": {"workers": workers, "accelerator": "cpu"},
        "sampler": document["sampler"] | {"steps": 2},
        "optimizer": document["optimizer"] | {"warmup_images": 0},
    }
    return parse_spec(document | changes)


def engines(repeats: int) -> Section:
    spec = training_spec(workers=_WORKERS, batch_images=64, duration_images=_DURATION_IMAGES)
    with place() as where:
        variants = {"torchrun": lambda: _under_torchrun(where, spec), "Ray": lambda: _under_ray(where, spec)}
        found = interleaved(variants, repeats=repeats)
    lost = [plain / ours - 1 for ours, plain in zip(found["Ray"], found["torchrun"], strict=True)]
    return Section(
        "Ray beside torchrun",
        _HOW.format(workers=_WORKERS, duration=_DURATION_IMAGES, log=_LOG_IMAGES),
        repeats,
        ["images a second under torchrun", "under Ray", "longer under Ray"],
        [[spread(found["torchrun"], ".1f"), spread(found["Ray"], ".1f"), percent(lost)]],
        [at_most("a step takes less than 3 % longer under Ray", lost, _LIMIT)],
    )


def _under_torchrun(where: Place, spec: TrainSpec) -> float:
    job = where.job(spec)
    where.run(job, processes=_WORKERS)
    return job.rate()


def _under_ray(where: Place, spec: TrainSpec) -> float:
    job = where.job(spec)
    with ray_head(num_cpus=_WORKERS, environment=where.environment) as head:
        RayJobs(head).run(job.command)
    return job.rate()
