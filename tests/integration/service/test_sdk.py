"""The SDK against the real application behind a real socket."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest
import uvicorn

from service.app import create_app
from service.client import (
    AuthenticationFailed,
    Client,
    Conflict,
    InvalidRequest,
    NotFound,
    ServiceUnreachable,
)
from service.cluster import MemoryCluster
from tests.support.plane import KEY, FakeMlflow, Script, Worker, settings_in
from tests.support.ray_head import free_ports
from workers.contract.keys import JobKeys
from workers.contract.presets import PRESETS
from workers.storage.memory import MemoryStore


@dataclass
class Service:
    """A served application; its driver leaves an outcome as soon as it runs."""

    url: str
    store: MemoryStore


@contextmanager
def serving(folder: Path) -> Iterator[Service]:
    store = MemoryStore()
    app = create_app(settings_in(folder), cluster=MemoryCluster(Script()), store=store, mlflow=FakeMlflow().client())
    (port,) = free_ports(1)
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=port, log_level="warning"))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        deadline = time.monotonic() + 30
        while not server.started:
            assert thread.is_alive(), "the server ended"
            assert time.monotonic() < deadline, "the server did not start"
            time.sleep(0.01)
        yield Service(f"http://127.0.0.1:{port}", store)
    finally:
        server.should_exit = True
        thread.join()


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    with serving(tmp_path) as service:
        yield service


@pytest.fixture
def client(service: Service) -> Iterator[Client]:
    with Client(service.url, KEY) as client:
        yield client


def test_a_job_is_submitted_followed_and_its_results_fetched(service: Service, client: Client) -> None:
    assert client.readiness().ready
    preset = client.presets()["smoke"]
    assert preset == PRESETS["smoke"]

    job = client.jobs.create(preset, name="first")
    service.store.put(JobKeys(job.id).sample(160), b"PNG")
    Worker(service.store, job.id).outcome("succeeded", at=datetime.now(UTC))
    job = client.jobs.wait(job.id, timeout=10, poll_seconds=0.01)

    assert (job.state, job.name, job.spec) == ("succeeded", "first", preset)
    assert client.jobs.retrieve(job.id).id == job.id
    assert [one.id for one in client.jobs.list(state="succeeded")] == [job.id]
    assert [event.sequence for event in client.jobs.events(job.id)] == [1, 2, 3]
    assert [event.state for event in client.jobs.events(job.id, after=2)] == ["succeeded"]
    assert client.jobs.logs(job.id).attempt == 1
    assert client.jobs.checkpoints(job.id) == ()
    assert client.jobs.samples(job.id) == (160,)
    assert client.jobs.sample(job.id) == client.jobs.sample(job.id, images_seen=160) == b"PNG"


def test_refusals_arrive_as_exceptions_that_say_what_to_do(service: Service, client: Client) -> None:
    document = PRESETS["smoke"].model_dump(mode="json")
    with pytest.raises(InvalidRequest) as caught:
        client.jobs.create({**document, "batch_images": -1, "colour": "red"})
    assert {problem.pointer for problem in caught.value.problems} == {"/spec/batch_images", "/spec/colour"}
    assert "spec.colour: unknown field" in str(caught.value)

    with pytest.raises(NotFound, match="no job job_none"):
        client.jobs.retrieve("job_none")

    running, queued = client.jobs.create(document), client.jobs.create(document)
    assert client.jobs.cancel(queued.id).state == "cancelled"
    with pytest.raises(Conflict, match="ended already: cancelled"):
        client.jobs.cancel(queued.id)
    client.jobs.cancel(running.id)
    assert client.jobs.wait(running.id, timeout=10, poll_seconds=0.01).state == "cancelled"

    with Client(service.url, "wrong") as stranger, pytest.raises(AuthenticationFailed, match="API key"):
        stranger.jobs.retrieve(queued.id)


def test_a_service_that_is_not_there_is_said_to_be_unreachable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.client.connection._PAUSES_SECONDS", ())
    (port,) = free_ports(1)

    with Client(f"http://127.0.0.1:{port}", KEY) as client, pytest.raises(ServiceUnreachable, match="started"):
        client.presets()
