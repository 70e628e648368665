"""From the submission to the first step, beside a bare Ray job."""

import tempfile
from pathlib import Path
from statistics import median

from tests.benchmarks.runtime.figures import Aim, Section, interleaved, percent, spread
from tests.benchmarks.runtime.jobs import Place, RayJobs, place
from tests.support.ray_head import ray_head
from tests.support.specs import smoke_spec
from workers.contract.spec import TrainSpec
from workers.data import import_dataset
from workers.storage import open_store

_LIMIT = 0.15
_WORKERS = 2
_BARE_JOB = Path(__file__).with_name("bare_ray_job.py")

_HOW = """\
Both are submitted to the same warm head through Ray's job REST API, in turn, one at a time, each with {workers}
workers and an environment of its own, as the service's are: ours with the command that the service submits, on a spec
and a dataset in the store; the other a `TorchTrainer` whose workers import PyTorch and take one DDP step on a linear
layer (`tests/benchmarks/runtime/bare_ray_job.py`). The first of each is not counted. The first step ends when rank 0
says so: by its first row, written after each step, or by a file. The claim is the first thing our driver writes."""


def first_step(repeats: int) -> Section:
    claims: list[float] = []

    def ours(where: Place, ray: RayJobs, spec: TrainSpec) -> float:
        job = where.job(spec)
        submitted_at = ray.run(job.command)
        claims.append(job.claimed_at() - submitted_at)
        return job.rows()[0]["time"] - submitted_at

    with (
        place() as where,
        tempfile.TemporaryDirectory() as folder,
        ray_head(num_cpus=2 * _WORKERS, environment=where.environment) as head,
    ):
        ray, file, spec = RayJobs(head), Path(folder, "told"), _spec(where)
        variants = {"bare": lambda: _bare(ray, file), "ours": lambda: ours(where, ray, spec)}
        interleaved(variants, repeats=1)
        claims.clear()
        found = interleaved(variants, repeats=repeats)
    longer = [ours / bare - 1 for ours, bare in zip(found["ours"], found["bare"], strict=True)]
    return Section(
        "Submission to first step",
        _HOW.format(workers=_WORKERS),
        repeats,
        ["bare Ray job", "ours", "of it until the claim", "longer"],
        [[f"{spread(found['bare'])} s", f"{spread(found['ours'])} s", f"{spread(claims)} s", percent(longer)]],
        [Aim("within 15 % of a bare Ray job", median(longer) < _LIMIT, percent(longer))],
    )


def _spec(where: Place) -> TrainSpec:
    """Of a job whose images are in the store."""
    digest = import_dataset(smoke_spec().dataset, open_store(where.url)).digest
    return smoke_spec(
        dataset={"kind": "imported", "digest": digest},
        duration_images=32,
        compute={"workers": _WORKERS, "accelerator": "cpu"},
        cadence={"log_images": 16, "checkpoint_images": 32},
    )


def _bare(ray: RayJobs, file: Path) -> float:
    submitted_at = ray.run([str(_BARE_JOB), str(_WORKERS), str(file)])
    return float(file.read_text()) - submitted_at
