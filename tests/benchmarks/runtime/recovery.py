"""How long a killed worker holds up a job, beside a cold start."""

import time

import psutil

from tests.benchmarks.runtime.figures import Section, interleaved, spread
from tests.benchmarks.runtime.jobs import Job, Place, RayJobs, place, until
from tests.support.ray_head import RayHead, ray_head
from tests.support.specs import smoke_spec
from workers.storage.job_folder import committed_checkpoints

_WORKERS = 2
_SPEC = smoke_spec(
    duration_images=10**6,
    compute={"workers": _WORKERS, "accelerator": "cpu"},
    cadence={"log_images": 16, "checkpoint_images": 3200},
)

_HOW = """\
A job of {workers} workers is submitted to a warm head and trains until it has committed a checkpoint; then one of
its workers gets SIGKILL. Cold: from the submission to the end of the first step. Again: from the kill to the end of
the first step after it, by the first row whose images had been seen before; this includes detecting the loss,
restarting the group, reading the checkpoint and connecting. Both are of the same jobs, which write a row every step."""


def recovery(repeats: int) -> Section:
    cold: list[float] = []
    with place() as where, ray_head(num_cpus=2 * _WORKERS, environment=where.environment) as head:
        ray = RayJobs(head)
        found = interleaved({"again": lambda: _again(where, head, ray, cold)}, repeats=repeats)
    shares = [again / first for again, first in zip(found["again"], cold, strict=True)]
    return Section(
        "Killed worker to first step",
        _HOW.format(workers=_WORKERS),
        repeats,
        ["cold", "again", "again / cold"],
        [[f"{spread(cold)} s", f"{spread(found['again'])} s", spread(shares)]],
        [],
    )


def _again(where: Place, head: RayHead, ray: RayJobs, cold: list[float]) -> float:
    job, submitted_at = where.job(_SPEC), time.time()
    submission_id = ray.submit(job.command)
    until(lambda: _is_beyond_a_checkpoint(job))
    cold.append(job.rows()[0]["time"] - submitted_at)
    seen = max(row["images_seen"] for row in job.rows())
    killed_at = time.time()
    _workers(head)[0].kill()

    def first_after() -> float:
        return next((row["time"] for row in job.rows() if row["time"] > killed_at and row["images_seen"] <= seen), 0.0)

    begun_again = float(until(first_after))
    ray.stop(submission_id)
    return begun_again - killed_at


def _is_beyond_a_checkpoint(job: Job) -> bool:
    committed = committed_checkpoints(job.store, job.keys)
    return bool(committed) and job.rows()[-1]["images_seen"] > job.keys.of_checkpoint(committed[-1])[0]


def _workers(head: RayHead) -> list[psutil.Process]:
    children = psutil.Process(head.pid).children(recursive=True)
    return [process for process in children if "ray::RayTrainWorker" in " ".join(process.cmdline())]
