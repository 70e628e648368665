"""`cdm average` beside a stack whose S3 server lets in only those who have the keys in its state folder."""

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import uvicorn
from structlog.testing import capture_logs

from service.app import create_app
from service.client import Client
from service.cluster import MemoryCluster
from service.embedded.documents import Connection, Keys, Ports, Run
from service.embedded.folder import Folder
from tests.support.plane import KEY, FakeMlflow, Script, settings_in
from tests.support.ray_head import free_ports
from tests.support.seaweed import seaweed
from tests.support.trained import tiny_spec, train_job
from tests.support.waiting import wait_until
from workers.contract.keys import JobKeys
from workers.storage import ObjectStore, open_store
from workers.training.checkpoint import committed_checkpoints
from workers.training.weights import read_weights

Average = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def store(home: Path) -> Iterator[ObjectStore]:
    with seaweed() as server, pytest.MonkeyPatch.context() as environment:
        keys = Keys.generate().model_copy(
            update={"s3_access_key": server.access_key, "s3_secret_key": server.secret_key}
        )
        keys.write(Folder(home).keys)
        ports = Ports(**dict.fromkeys(Ports.model_fields, 0) | {"s3": urlsplit(server.endpoint).port})
        Run(pid=1, created_at=0, ready=True, ports=ports).write(Folder(home).run)
        for name, value in server.environment.items():
            environment.setenv(name, value)
        yield open_store(f"s3://{server.bucket}")


@pytest.fixture(scope="module")
def client(home: Path, store: ObjectStore, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    settings = settings_in(tmp_path_factory.mktemp("service"), store_url="s3://tests")
    app = create_app(settings, cluster=MemoryCluster(Script()), store=store, mlflow=FakeMlflow(runs={}).client())
    (port,) = free_ports(1)
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=port, log_level="warning"))
    thread = threading.Thread(target=server.run)
    thread.start()
    wait_until(lambda: server.started)
    connection = Connection(url=f"http://127.0.0.1:{port}", api_key=KEY)
    connection.write(Folder(home).connection)
    with Client(connection.url, KEY) as client, capture_logs():
        yield client
    server.should_exit = True
    thread.join()


@pytest.fixture
def average(home: Path, tmp_path: Path) -> Average:
    """The command in a process that knows of no S3 server but a wrong one."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "CDM_"))}
    environment |= {"AWS_ENDPOINT_URL": "http://127.0.0.1:1", "CDM_HOME": str(home)}

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "service.cli", "average", *arguments, "-o", str(tmp_path / "out.safetensors")]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)

    return run


def test_an_average_is_rebuilt_with_what_the_stack_knows(
    client: Client, store: ObjectStore, average: Average, tmp_path: Path
) -> None:
    spec = tiny_spec(duration_images=32)
    keys = JobKeys(client.jobs.create(spec).id)
    train_job(spec, store, keys, cache=tmp_path, every=16)

    done = average("latest", "--relative-width", "0.1")
    kept = average("latest", "--relative-width", "0.1")
    refused = average("latest", "--relative-width", "0.3", "--force")

    assert (done.returncode, done.stderr) == (0, "")
    assert "relative width 0.1 at 32 images, from 1 of 4 stored averages" in done.stdout
    assert read_weights(tmp_path / "out.safetensors")[0].extra["source"] == keys.job_id
    assert (kept.returncode, kept.stdout) == (2, "")
    assert "out.safetensors is there already" in kept.stderr
    assert (refused.returncode, refused.stdout) == (2, "")
    assert refused.stderr == "error: --relative-width: 0.3 is out of range, must lie between 0 and 0.28\n"
    assert len(committed_checkpoints(store, keys)) == 2


def test_a_job_without_checkpoints_is_told_when_the_first_will_come(client: Client, average: Average) -> None:
    client.jobs.create(tiny_spec())

    answer = average("latest", "--relative-width", "0.1")

    assert answer.returncode == 1
    assert answer.stderr.endswith("has no checkpoints yet: the first comes after 16 images\n")
