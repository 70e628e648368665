"""The service, killed ten times at random moments while a real Ray head runs twenty short jobs for it.

Slow, since every driver and every worker of a job imports PyTorch; what a scripted Ray cannot show is that drivers,
workers and the head take no notice of the service's deaths.
"""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.support.ray_head import RayHead, free_ports, ray_head
from tests.support.specs import smoke_spec
from tests.support.waiting import wait_until
from workers.contract.keys import JOBS, JobKeys
from workers.storage.local import LocalStore

KEY = "chaos-key-0123456789"
NUM_JOBS, NUM_KILLS, AT_A_TIME = 20, 10, 2
DEADLINE_SECONDS = 45 * 60.0
_AGAIN = {409, 503}  # the first try of a request is still in flight, or the service is


@dataclass
class Service:
    """The real application under uvicorn, in a process that is started anew after every kill."""

    folder: Path
    head: RayHead
    port: int = field(default_factory=lambda: free_ports(1)[0])
    process: "subprocess.Popen[bytes] | None" = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        command = [sys.executable, "-m", "uvicorn", "service.app:create_app_from_environment", "--factory"]
        environment = {
            "CDM_API_KEY": KEY,
            "CDM_STATE_FOLDER": str(self.folder),
            "CDM_STORE_URL": f"file://{self.folder}/objects",
            "CDM_RAY_URL": self.head.url,
            "CDM_RAY_TOKEN": self.head.token,
            "CDM_MLFLOW_URL": "http://127.0.0.1:1",  # nobody listens there: tracking may be down for good
            "CDM_WORKER_PYTHON": sys.executable,
            "CDM_LEASE_SECONDS": "10",  # of a process that was killed
        }
        with (self.folder / "service.log").open("ab") as log:
            self.process = subprocess.Popen(
                [*command, "--port", str(self.port), "--log-level", "warning"],
                env=os.environ | environment,
                stdout=log,
                stderr=log,
            )

    def kill(self) -> None:
        assert self.process
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def ask(self, method: str, path: str, *, headers: dict[str, str] | None = None, **how: Any) -> Any:
        """Until there is an answer, as the SDK does: a repeated POST has the same key."""
        authorized = {"Authorization": f"Bearer {KEY}", **(headers or {})}

        def answer() -> httpx2.Response | None:
            with suppress(httpx2.TransportError):
                found = httpx2.request(method, self.url + path, headers=authorized, timeout=10.0, **how)
                return found if found.status_code not in _AGAIN else None
            return None

        found = wait_until(answer, timeout_seconds=120.0)
        assert found.is_success, found.text
        return found.json()


@pytest.fixture
def head() -> Iterator[RayHead]:
    with ray_head(num_cpus=AT_A_TIME, environment={"OMP_NUM_THREADS": "1"}) as head:
        yield head


@contextmanager
def running(service: Service) -> Iterator[None]:
    service.start()
    try:
        yield
    finally:
        service.kill()


@pytest.mark.timeout(3600)
def test_twenty_jobs_end_well_once_while_the_service_is_killed_ten_times(
    head: RayHead, tmp_path: Path, summarize: Callable[[str], None]
) -> None:
    service, chance, began = Service(tmp_path, head), random.Random(4), time.monotonic()  # noqa: S311 (reproducible)
    spec = smoke_spec(compute={"workers": 1, "accelerator": "cpu"}).model_dump(mode="json")
    kills = 0
    with running(service):
        for number in range(NUM_JOBS):
            key = {"Idempotency-Key": f"chaos-{number}"}
            service.ask("POST", "/v1/jobs", json={"name": f"job {number}", "spec": spec}, headers=key)
            if number % 4 == 3:  # the first kills come while jobs are submitted
                kills += _killed_at_random(service, chance, longest_seconds=1.0)
        while kills < NUM_KILLS:
            kills += _killed_at_random(service, chance, longest_seconds=25.0)
            assert _unfinished(service), "all was over before the last kill"
        wait_until(lambda: not _unfinished(service), timeout_seconds=DEADLINE_SECONDS)

        jobs = _jobs(service)
        histories = {job["id"]: service.ask("GET", f"/v1/jobs/{job['id']}/events?limit=100")["data"] for job in jobs}
    store = LocalStore(tmp_path / "objects")
    claims = Counter(key.split("/")[1] for key in store.list(JOBS) if key.endswith("/claim.json"))
    outcomes = [json.loads(store.get(JobKeys(job["id"]).attempt(1).outcome))["status"] for job in jobs]

    assert Counter((job["state"], job["attempt"]) for job in jobs) == {("succeeded", 1): NUM_JOBS}
    assert claims == {job["id"]: 1 for job in jobs}, "each was run by one driver"
    assert outcomes == ["succeeded"] * NUM_JOBS
    for events in histories.values():
        assert [event["sequence"] for event in events] == list(range(1, len(events) + 1))
        assert [event["type"] for event in events].count("attempt_started") == 1
    summarize(
        f"real Ray: {NUM_JOBS} jobs succeeded once each, the service killed {kills} times,"
        f" in {time.monotonic() - began:.0f} s"
    )


def _killed_at_random(service: Service, chance: random.Random, *, longest_seconds: float) -> int:
    """At any moment: of its start, of a request, of a look at the jobs."""
    time.sleep(chance.uniform(0.0, longest_seconds))
    service.kill()
    service.start()
    return 1


def _jobs(service: Service) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = service.ask("GET", "/v1/jobs?limit=100")["data"]
    return found


def _unfinished(service: Service) -> list[str]:
    return [job["id"] for job in _jobs(service) if job["state"] not in {"succeeded", "failed", "cancelled"}]
