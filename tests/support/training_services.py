"""A job on real Ray nodes, with a real S3 server and a real MLflow: begun, followed, and accounted for when it is over.

Without the service: the command that it submits is run here, so that a test knows when something happened.
"""

import asyncio
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from unittest.mock import patch

import psutil
from mlflow import MlflowClient

from service.jobs.lifecycle import JobState
from service.jobs.objects import JobObjects
from service.jobs.records import JobRecord
from service.jobs.replay import complete_run
from service.mlflow import Mlflow
from tests.support.faulty_s3 import Proxy, faulty_proxy
from tests.support.mlflow_server import mlflow_server
from tests.support.ray_head import RayHead, free_ports, ray_head
from tests.support.seaweed import Seaweed, seaweed
from tests.support.specs import smoke_spec
from tests.support.waiting import wait_until
from workers.contract.keys import JobKeys
from workers.contract.records import Progress
from workers.contract.spec import TrainSpec
from workers.storage.s3 import S3Store

LOG_IMAGES, CHECKPOINT_IMAGES, TOTAL_IMAGES = 32, 640, 4480
END_SECONDS = 480.0
_STATE = ("network", "ema", "optimizer")


def spec_of(**changes: Any) -> TrainSpec:
    """Two workers; long enough to be met on its way."""
    cadence = {"log_images": LOG_IMAGES, "checkpoint_images": CHECKPOINT_IMAGES}
    compute = {"workers": 2, "accelerator": "cpu", **changes.pop("compute", {})}
    return smoke_spec(**{"duration_images": TOTAL_IMAGES, "cadence": cadence, "compute": compute, **changes})


@dataclass
class MlflowProcess:
    """An MLflow server that may be killed and started again, with what was in it."""

    folder: Path
    port: int = field(default_factory=lambda: free_ports(1)[0])
    _running: ExitStack = field(default_factory=ExitStack)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        self._running.enter_context(mlflow_server(self.folder, self.port))

    def kill(self) -> None:
        listeners = [c.pid for c in psutil.net_connections("tcp") if c.laddr.port == self.port and c.status == "LISTEN"]
        for pid in filter(None, listeners):
            psutil.Process(pid).kill()
        self.close()

    def close(self) -> None:
        self._running.close()


@dataclass
class TrainingServices:
    """What a job is trained on. Its nodes are started with `environment`; the way to S3 is the proxy's."""

    s3: Seaweed
    proxy: Proxy
    mlflow: MlflowProcess
    store: S3Store
    cache: Path
    drivers: ExitStack = field(default_factory=ExitStack)

    @property
    def environment(self) -> dict[str, str]:
        return {
            **self.s3.environment,
            "AWS_ENDPOINT_URL_S3": self.proxy.endpoint,
            "MLFLOW_TRACKING_URI": self.mlflow.url,
            "CDM_CACHE": str(self.cache),
            "OMP_NUM_THREADS": "1",
            "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
            "RAY_memory_monitor_refresh_ms": "0",
        }

    def head(self, *, num_cpus: int) -> Any:
        return ray_head(num_cpus=num_cpus, environment=self.environment)

    def begin(
        self, name: str, head: RayHead, *, environment: Mapping[str, str] | None = None, **changes: Any
    ) -> "Training":
        """Submit nothing, run the driver: what it prints is in the store. It and its workers have the `environment`."""
        keys = JobKeys(name)
        self.store.put(keys.spec, spec_of(**changes).model_dump_json().encode())
        training = Training(self, keys, environment or {})
        training.drive(head)
        return training


@contextmanager
def training_services(folder: Path) -> Iterator[TrainingServices]:
    (folder / "mlflow").mkdir(parents=True)
    mlflow = MlflowProcess(folder / "mlflow")
    with seaweed() as s3, faulty_proxy(s3.endpoint) as proxy, patch.dict(os.environ, s3.environment):
        mlflow.start()
        try:
            services = TrainingServices(s3, proxy, mlflow, S3Store.connect(s3.bucket), folder / "cache")
            with services.drivers:
                yield services
        finally:
            mlflow.close()


@dataclass
class Training:
    """One job, whatever happens to it."""

    services: TrainingServices
    keys: JobKeys
    environment: Mapping[str, str] = field(default_factory=dict)
    driver: "subprocess.Popen[bytes] | None" = None
    attempts: int = 0

    def drive(self, head: RayHead) -> None:
        """Begin the next attempt."""
        self.attempts += 1
        url = f"s3://{self.services.s3.bucket}/{self.keys.spec}"
        config = {"runtime_env": {"env_vars": dict(self.environment)}}
        environment = {
            **os.environ,
            **self.services.environment,
            **head.environment,
            **self.environment,
            "RAY_ADDRESS": head.gcs_address,
            "RAY_JOB_CONFIG_JSON_ENV_VAR": json.dumps(config),  # as Ray sets it for what is submitted to it
        }
        self.driver = subprocess.Popen([sys.executable, "-m", "workers", url], env=environment)
        self.services.drivers.callback(self.kill_driver)

    def kill_driver(self) -> None:
        assert self.driver
        self.driver.kill()
        self.driver.wait()

    def end(self) -> None:
        """Wait for the driver, which must be content."""
        assert self.driver
        assert self.driver.wait(END_SECONDS) == 0, self.log()[-3000:]

    def rows(self) -> list[dict[str, float]]:
        """Every metric row, in the order of attempts and writing."""
        store = self.services.store
        chunks = [
            store.get(key)
            for number in range(1, self.attempts + 1)
            for key in store.list(self.keys.attempt(number).metrics)
        ]
        return [row for chunk in chunks for line in chunk.splitlines() if "loss/dsm" in (row := json.loads(line))]

    def furthest(self) -> int:
        return max((int(row["images_seen"]) for row in self.rows()), default=0)

    def reach(self, images: int) -> int:
        """Wait until so many images have been seen; return how many it were by then."""
        return wait_until(lambda: self.furthest() if self.furthest() >= images else None, timeout_seconds=END_SECONDS)

    def draw_a_grid(self) -> None:
        """Wait until it has drawn one more."""
        drawn = len(self.services.store.list(self.keys.samples))
        wait_until(lambda: len(self.services.store.list(self.keys.samples)) > drawn, timeout_seconds=END_SECONDS)

    def log(self, source: str = "") -> str:
        """Of everybody, or of one of those who print."""
        store, numbers = self.services.store, range(1, self.attempts + 1)
        keys = [key for number in numbers for key in store.list(f"{self.keys.attempt(number).logs}{source}")]
        return b"".join(map(store.get, keys)).decode(errors="replace")

    def worker(self, rank: int) -> psutil.Process:
        """The newest process of this rank."""
        found = re.findall(rf"worker.ready .*?rank={rank} worker_pid=(\d+)", self.log())
        return psutil.Process(int(found[-1]))

    def progress(self) -> Progress | None:
        try:
            return Progress.model_validate_json(self.services.store.get(self.keys.attempt(self.attempts).progress))
        except FileNotFoundError:
            return None

    def checkpoints(self) -> list[int]:
        folders = self.services.store.folders(self.keys.checkpoints)
        manifests = [
            name for name in folders if self.services.store.list(f"{self.keys.checkpoints}{name}/MANIFEST.json")
        ]
        return [int(name.split("-")[0]) for name in manifests]

    def final_state(self) -> dict[str, bytes]:
        """Every weight, average and moment at the end."""
        store = self.services.store
        (folder,) = [name for name in store.folders(self.keys.checkpoints) if int(name.split("-")[0]) == TOTAL_IMAGES]
        return {name: store.get(f"{self.keys.checkpoints}{folder}/{name}.safetensors") for name in _STATE}

    def points_in_mlflow(self) -> list[int]:
        """Steps of its loss, once the service has brought what was missed, as it does when a job has ended."""
        asyncio.run(self._complete_run())
        client = MlflowClient(self.services.mlflow.url)
        (experiment,) = [each for each in client.search_experiments() if each.name != "Default"]
        (run,) = client.search_runs([experiment.experiment_id], f'tags.`cdm.job_id` = "{self.keys.job_id}"')
        return [point.step for point in client.get_metric_history(run.info.run_id, "loss/dsm")]

    async def _complete_run(self) -> None:
        job = JobRecord(
            id=self.keys.job_id,
            spec=self.services.store.get(self.keys.spec).decode(),
            spec_sha256="",
            state=JobState.SUCCEEDED,
            created_at=datetime.now(UTC),
        )
        mlflow = Mlflow(self.services.mlflow.url)
        try:
            await complete_run(job, JobObjects(self.services.store, url=f"s3://{self.services.s3.bucket}"), mlflow)
        finally:
            await mlflow.close()

    def recovery(self, *, since: float) -> tuple[int, float]:
        """Where it went on after what happened at `since` (Unix time), and after how many seconds it made a step."""
        starts = [int(found) for found in re.findall(r"worker.ready device=cpu images_seen=(\d+)", self.log())]
        return starts[-1], min(row["time"] for row in self.rows() if row["time"] > since + 1.0) - since


def now() -> float:
    return time.time()
