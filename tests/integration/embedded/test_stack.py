"""The real stack, started as a user starts it. A stack costs eight seconds, so tests that change nothing share one."""

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import httpx2
import psutil
import pytest
from botocore.exceptions import ClientError

from service.embedded import processes
from service.embedded.documents import Keys, Run
from service.embedded.folder import Folder
from tests.support.waiting import wait_until

pytestmark = pytest.mark.timeout(400)  # eight seconds a start on a quiet machine, half a minute on a busy one

CDM = (sys.executable, "-P", "-m", "service.cli")
DEADLINE_SECONDS = 170


@dataclass(frozen=True, slots=True)
class Home:
    """A state folder, and `cdm` with it."""

    folder: Folder

    def cdm(self, *arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [*CDM, *arguments],
            env={**os.environ, "CDM_HOME": str(self.folder.root), **environment},
            capture_output=True,
            text=True,
            timeout=DEADLINE_SECONDS,
            check=False,
        )

    def up(self) -> None:
        started = self.cdm("up", "--detach")
        assert started.returncode == 0, started.stderr

    def status(self) -> dict[str, dict[str, Any]]:
        return {part["name"]: part for part in json.loads(self.cdm("status", "--json").stdout)["parts"]}

    @property
    def run(self) -> Run:
        run = Run.read(self.folder.run)
        assert run
        return run

    @property
    def keys(self) -> Keys:
        keys = Keys.read(self.folder.keys)
        assert keys
        return keys

    def processes(self) -> list[psutil.Process]:
        return [process for group in processes.marked(self.keys.mark).values() for process in group]

    def s3(self, *, secret: str | None = None) -> Any:
        return boto3.client(
            "s3",
            endpoint_url=f"http://127.0.0.1:{self.run.ports.s3}",
            aws_access_key_id=self.keys.s3_access_key,
            aws_secret_access_key=secret or self.keys.s3_secret_key,
            region_name="us-east-1",
        )


@contextmanager
def new_home() -> Iterator[Home]:
    """A short folder, as a home is, and nothing left of it afterwards."""
    with tempfile.TemporaryDirectory(prefix="cdm-") as folder:
        home = Home(Folder.at(Path(folder) / "home"))
        try:
            yield home
        finally:
            home.cdm("down")


@pytest.fixture
def home() -> Iterator[Home]:
    with new_home() as home:
        yield home


@pytest.fixture(scope="module")
def stack() -> Iterator[Home]:
    """A running stack, to be looked at only."""
    with new_home() as home:
        home.up()
        yield home


def test_every_part_is_ready_and_the_api_answers_with_the_key_that_was_generated(stack: Home) -> None:
    parts = stack.status()

    assert {name: part["state"] for name, part in parts.items()} == dict.fromkeys(
        ("s3", "mlflow", "ray", "api"), "ready"
    )
    assert all(part["memory_bytes"] > 10 << 20 for part in parts.values())
    assert len({part["pid"] for part in parts.values()}) == 4
    assert stack.cdm("jobs").stdout == "no jobs\n"
    assert stack.cdm("jobs", "--key", "another-key-0123456789").returncode == 1


def test_a_second_up_is_refused_and_told_where_the_first_is(stack: Home) -> None:
    for arguments in (("up",), ("up", "--detach")):
        second = stack.cdm(*arguments)

        assert second.returncode == 1
        assert second.stderr.startswith(f"error: a stack already runs from {stack.folder.root} at http://127.0.0.1:")
    assert stack.status()["api"]["state"] == "ready"


def test_s3_and_ray_refuse_those_without_the_generated_secrets(stack: Home) -> None:
    ray = f"http://127.0.0.1:{stack.run.ports.ray_dashboard}/api/jobs/"

    assert httpx2.get(ray).status_code == 401
    with closing(stack.s3()) as known, closing(stack.s3(secret="wrong")) as unknown:
        assert {bucket["Name"] for bucket in known.list_buckets()["Buckets"]} >= {"cdm", "mlflow"}
        with pytest.raises(ClientError, match="SignatureDoesNotMatch"):
            unknown.list_buckets()


def test_mlflow_which_asks_nobody_who_they_are_reads_its_own_files_to_them_and_not_the_jobs(stack: Home) -> None:
    with closing(stack.s3()) as s3, httpx2.Client(base_url=stack.status()["mlflow"]["address"]) as mlflow:
        s3.put_object(Bucket="cdm", Key="jobs/job_1/secret.txt", Body=b"another's")
        s3.put_object(Bucket="mlflow", Key="artifacts/open.txt", Body=b"everybody's")

        def read_as_a_model(place: str, name: str) -> httpx2.Response:
            registry = "/api/2.0/mlflow"
            model = {"name": name}
            mlflow.post(f"{registry}/registered-models/create", json=model).raise_for_status()
            version = model | {"source": f"s3://{place}"}
            mlflow.post(f"{registry}/model-versions/create", json=version).raise_for_status()
            return mlflow.get("/model-versions/get-artifact", params=model | {"version": "1", "path": name})

        ours, theirs = read_as_a_model("mlflow/artifacts", "open.txt"), read_as_a_model("cdm/jobs/job_1", "secret.txt")
        stored = mlflow.put("/api/2.0/mlflow-artifacts/artifacts/new.txt", content=b"new")

    assert (ours.status_code, ours.text) == (200, "everybody's")
    assert theirs.status_code >= 400
    assert "another's" not in theirs.text
    assert stored.status_code == 200


def test_files_with_secrets_are_for_their_owner_only(stack: Home) -> None:
    folder = stack.folder

    for path in (folder.keys, folder.connection, folder.run, folder.root / "s3.json"):
        assert path.stat().st_mode & 0o777 == 0o600, path


def test_a_killed_stack_leaves_no_process_and_no_gap(home: Home) -> None:
    """Two starts of the real servers: only they show that Ray's tree of processes goes, and that data stays."""
    home.up()
    ports = home.run.ports
    mlflow = f"http://127.0.0.1:{ports.mlflow}/api/2.0/mlflow/experiments"
    with closing(home.s3()) as s3:
        s3.put_object(Bucket="cdm", Key="kept", Body=b"bytes")
    assert httpx2.post(f"{mlflow}/create", json={"name": "kept"}).status_code == 200

    os.kill(home.run.pid, signal.SIGKILL)

    wait_until(lambda: not home.processes(), timeout_seconds=DEADLINE_SECONDS)
    assert {part["state"] for part in home.status().values()} == {"down"}
    assert "start it with `cdm up`" in home.cdm("jobs").stderr

    home.up()

    assert home.run.ports == ports
    with closing(home.s3()) as s3:
        assert s3.get_object(Bucket="cdm", Key="kept")["Body"].read() == b"bytes"
    assert httpx2.get(f"{mlflow}/get-by-name", params={"experiment_name": "kept"}).status_code == 200

    down = home.cdm("down")

    assert (down.returncode, down.stdout) == (0, "stopped\n")
    assert not home.processes()


def test_a_part_that_dies_is_started_again(home: Home) -> None:
    home.up()
    first = home.status()["s3"]["pid"]

    os.kill(first, signal.SIGKILL)

    def another_is_ready() -> bool:
        s3 = home.status()["s3"]
        return bool(s3["state"] == "ready" and s3["pid"] != first)

    wait_until(another_is_ready, timeout_seconds=DEADLINE_SECONDS)
    assert "S3 (SeaweedFS) ended with exit code -9; it is started again" in home.folder.log("up").read_text()


def test_a_port_in_use_is_named_before_anything_is_started(home: Home) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        refused = home.cdm("up", "--mlflow-port", str(port))

    assert refused.returncode == 1
    assert refused.stdout == ""
    assert refused.stderr.startswith(f"error: port {port} for mlflow is in use: give another with --mlflow-port")
    assert not home.folder.connection.exists()


def test_a_half_failed_start_names_the_part_and_leaves_nothing_running(home: Home) -> None:
    refused = home.cdm("up", "--detach", CDM_MAX_ACTIVE_JOBS="many")

    assert refused.returncode == 1
    assert "API ended with exit code" in refused.stderr
    assert "CDM_MAX_ACTIVE_JOBS" in refused.stdout, "the end of its log"
    assert not home.processes()


def test_an_interrupted_start_leaves_nothing_running(home: Home) -> None:
    up = subprocess.Popen([*CDM, "up"], env={**os.environ, "CDM_HOME": str(home.folder.root)}, stdout=subprocess.PIPE)
    wait_until(lambda: home.folder.keys.exists() and len(home.processes()) >= 4, timeout_seconds=DEADLINE_SECONDS)

    up.send_signal(signal.SIGINT)

    assert b"stopped" in up.communicate(timeout=DEADLINE_SECONDS)[0]
    assert up.returncode == 0
    assert not home.processes()
