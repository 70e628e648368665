"""Jobs that run as processes of their own, on Ray or without, and what their journals say."""

import json
import os
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from statistics import median
from typing import Any
from unittest.mock import patch
from uuid import uuid4

import httpx2

from tests.support.ray_head import RayHead
from tests.support.seaweed import seaweed
from workers.contract.keys import JobKeys
from workers.contract.records import Claim
from workers.contract.spec import TrainSpec
from workers.storage import ObjectStore, open_store

_PATIENCE_SECONDS = 300.0
_WARM_UP_ROWS = 2
_OVER = {"SUCCEEDED", "FAILED", "STOPPED"}


@dataclass(frozen=True, slots=True)
class Job:
    """A spec in a store, to be run once."""

    keys: JobKeys
    store: ObjectStore
    command: Sequence[str]

    def rows(self) -> list[dict[str, float]]:
        """Of its curves, as they were told."""
        chunks = map(self.store.get, self.store.list(self.keys.attempt(1).metrics))
        rows = [json.loads(line) for chunk in chunks for line in chunk.splitlines()]
        return [row for row in rows if "loss/dsm" in row]

    def rate(self) -> float:
        """Images a second, the median of what its rows say but for the first ones."""
        return median(row["throughput/images_per_second"] for row in self.rows()[_WARM_UP_ROWS:])

    def claimed_at(self) -> float:
        """Unix time at which its driver was at work."""
        return Claim.model_validate_json(self.store.get(self.keys.attempt(1).claim)).claimed_at.timestamp()


@dataclass(frozen=True, slots=True)
class Place:
    """A store on a real S3 server, and what processes need to find it."""

    url: str
    environment: Mapping[str, str]

    def job(self, spec: TrainSpec) -> Job:
        keys, store = JobKeys(f"benchmark-{uuid4().hex}"), open_store(self.url)
        store.put(keys.spec, spec.model_dump_json().encode())
        command = ["-m", "workers", f"{self.url}/{keys.spec}", "--attempt", "1"]
        return Job(keys, store, command)

    def run(self, *jobs: Job, processes: int = 1) -> None:
        """All at once to their end, without Ray; several processes are torchrun's.

        Raises:
            RuntimeError: one has failed.
        """
        with ExitStack() as started:
            for process in [self._start(job, processes, started) for job in jobs]:
                printed, _ = process.communicate(timeout=_PATIENCE_SECONDS)
                if process.returncode:
                    raise RuntimeError(f"a job failed:\n{printed.decode(errors='replace')[-4000:]}")

    def _start(self, job: Job, processes: int, started: ExitStack) -> "subprocess.Popen[bytes]":
        torchrun = ["-m", "torch.distributed.run", f"--nproc-per-node={processes}", "--standalone"]
        launcher = torchrun if processes > 1 else []
        environment = {**os.environ, **self.environment}
        command = [sys.executable, *launcher, *job.command]
        process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        started.callback(process.terminate)  # does nothing to one that is over
        return process


@contextmanager
def place() -> Iterator[Place]:
    """The environment of jobs is that of `cdm up` (service/embedded/ray.py), but for MLflow: one thread a process."""
    with seaweed() as server, tempfile.TemporaryDirectory() as cache, patch.dict(os.environ, server.environment):
        environment = {
            "CDM_CACHE": cache,
            "OMP_NUM_THREADS": "1",
            "GLOO_SOCKET_IFNAME": "lo",
            "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2",
            "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",
        }
        yield Place(f"s3://{server.bucket}/benchmark", environment)


class RayJobs:
    """A Ray head's own REST interface of jobs."""

    def __init__(self, head: RayHead) -> None:
        headers = {"Authorization": f"Bearer {head.token}"}
        self._http = httpx2.Client(base_url=head.url, headers=headers, timeout=60.0)

    def run(self, command: Sequence[str]) -> float:
        """To its end; the Unix time at which it was submitted."""
        submitted_at = time.time()
        self.finish(self.submit(command))
        return submitted_at

    def submit(self, command: Sequence[str]) -> str:
        """Every job has an environment of its own, as those of the product have."""
        document = {
            "entrypoint": shlex.join([sys.executable, *command]),
            "runtime_env": {"env_vars": {"RAY_JOB_STOP_WAIT_TIME_S": "60"}},
        }
        return str(self._http.post("/api/jobs/", json=document).raise_for_status().json()["submission_id"])

    def finish(self, submission_id: str, *, well: bool = True) -> None:
        """Wait for its end."""
        path = f"/api/jobs/{submission_id}"
        job = until(lambda: (now := self._http.get(path).json())["status"] in _OVER and now)
        if well and job["status"] != "SUCCEEDED":
            raise RuntimeError(f"a job {job['status']}:\n{self._http.get(f'{path}/logs').json()['logs'][-4000:]}")

    def stop(self, submission_id: str) -> None:
        self._http.post(f"/api/jobs/{submission_id}/stop").raise_for_status()
        self.finish(submission_id, well=False)


def until(condition: Callable[[], object], *, timeout_seconds: float = _PATIENCE_SECONDS) -> Any:
    """Ask twice a second until the answer is truthy: whoever asks more often slows down what is measured."""
    deadline = time.monotonic() + timeout_seconds
    while time.monotonic() < deadline:
        if answer := condition():
            return answer
        time.sleep(0.5)
    raise TimeoutError(f"not so within {timeout_seconds:g} s")
