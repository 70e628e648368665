"""`cdm quickstart` beside a stack that runs: what it submits, waits for, fetches and says."""

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import psutil
import pytest

from service.embedded.documents import Ports, Run
from service.embedded.folder import Folder
from tests.support.served import Service
from tests.support.waiting import wait_until
from tests.support.worker import Worker
from workers.contract.keys import JobKeys
from workers.contract.presets import PRESETS


@pytest.fixture(autouse=True)
def run(service: Service) -> None:
    """As `cdm up` would have left it; this process is the stack."""
    ports = Ports(**dict.fromkeys(Ports.model_fields, 0))
    created_at = psutil.Process().create_time()
    Run(pid=os.getpid(), created_at=created_at, ready=True, ports=ports).write(Folder.at(None).run)


@contextmanager
def driver(service: Service, play: Callable[[Worker], None]) -> Iterator[None]:
    """Let one play the part of the driver of the job that comes."""

    def wait_and_play() -> None:
        job = wait_until(lambda: next(service.client.jobs.list(limit=1), None))
        play(service.worker(job.id))

    thread = threading.Thread(target=wait_and_play)
    thread.start()
    try:
        yield
    finally:
        thread.join()


def test_a_project_of_another_service_is_not_looked_for_in_this_one(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CDM_PROJECT", "faces")

    with driver(service, lambda worker: worker.outcome("failed", at=datetime.now(UTC), reason="internal")):
        answer = service.cdm("quickstart", "-o", "clothes.png")

    assert "faces" not in answer.err
    assert [job.name for job in service.client.jobs.list()] == ["quickstart"]


def test_it_trains_on_the_clothes_and_fetches_what_was_learnt(service: Service, tmp_path: Path) -> None:
    def succeed(worker: Worker) -> None:
        service.store.put(JobKeys(worker.job_id).sample(6_000), b"early")
        service.store.put(JobKeys(worker.job_id).sample(18_000), b"PNG")
        worker.outcome("succeeded", at=datetime.now(UTC))

    with driver(service, succeed):
        answer = service.cdm("quickstart", "-o", "clothes.png", "--json")

    [job] = service.client.jobs.list()
    assert answer.code == 0, answer.err
    assert (job.name, job.spec) == ("quickstart", PRESETS["fashion16"])
    assert (tmp_path / "clothes.png").read_bytes() == b"PNG"
    said = answer.document  # and nothing else
    assert "succeeded  0/18,000" in answer.err
    assert (said["job"], said["api_url"], said["stop"]) == (job.id, service.url, "cdm down")
    assert (said["image"], said["images_seen"]) == (str(tmp_path / "clothes.png"), 18_000)


def test_a_training_that_fails_ends_with_its_log_and_leaves_the_stack_that_ran_before(service: Service) -> None:
    def fail(worker: Worker) -> None:
        service.store.put(worker.keys.log_chunk("driver", 0), b"no room on the disk\n")
        worker.outcome("failed", at=datetime.now(UTC), reason="data_error", message="no images")

    with driver(service, fail):
        answer = service.cdm("quickstart")

    [job] = service.client.jobs.list()
    assert answer.code == 1
    assert "no room on the disk" in answer.out
    assert f"the job {job.id} failed" in answer.err
    assert service.client.jobs.retrieve(job.id).state == "failed", "it still answers"
