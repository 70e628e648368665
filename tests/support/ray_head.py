"""Real Ray nodes for tests: each one `ray start --block`, on free ports, behind a token, ended by its own pid."""

import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx2
import psutil

from tests.support.waiting import wait_until

_START_SECONDS = 180.0  # 6 s on a quiet machine, half a minute and more on a busy one
_STOP_SECONDS = 20.0
_RAY_START = (str(Path(sys.executable).with_name("ray")), "start", "--block")
_QUICK = {"RAY_raylet_start_wait_time_s": "180", "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": "2"}


@dataclass(frozen=True, slots=True)
class RayHead:
    """`url` is the dashboard's; `gcs_address` is what `ray.init(address=...)` takes."""

    url: str
    token: str
    gcs_address: str
    pid: int
    environment: Mapping[str, str]  # for processes that shall join it: authentication, and what was given


@dataclass(frozen=True, slots=True)
class RayNode:
    """`name` is what `ray list nodes` and the dashboard call it."""

    name: str
    process: "subprocess.Popen[bytes]"

    @property
    def raylet(self) -> psutil.Process:
        """The process that is the node: its workers die without it."""
        children = psutil.Process(self.process.pid).children()
        return next(child for child in children if child.name() == "raylet")


@contextmanager
def ray_head(*, num_cpus: int = 4, environment: Mapping[str, str] | None = None) -> Iterator[RayHead]:
    """Start it, wait until it takes submissions, and end it. `environment` reaches every job."""
    token = secrets.token_hex(16)
    authentication = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": token}
    port, dashboard_port, client_port = free_ports(3)
    folder = tempfile.mkdtemp(prefix="ray", dir="/tmp")
    command = [
        *_RAY_START,
        "--head",
        f"--port={port}",
        f"--dashboard-port={dashboard_port}",
        f"--ray-client-server-port={client_port}",
        "--dashboard-agent-listen-port=0",  # the fixed one is taken where another Ray runs on this host
        f"--num-cpus={num_cpus}",
        "--disable-usage-stats",
        "--no-monitor",  # as `cdm up` starts it (service/embedded/ray.py)
        f"--temp-dir={folder}",
    ]
    given = {**authentication, **(environment or {})}
    variables = {**os.environ, **_QUICK, **given}
    output = Path(folder, "head.log")
    with output.open("wb") as file:
        process = subprocess.Popen(command, env=variables, stdout=file, stderr=file, start_new_session=True)
    try:
        url = f"http://127.0.0.1:{dashboard_port}"
        _wait_until_ready(process, url, token, output)
        yield RayHead(url, token, f"127.0.0.1:{port}", process.pid, given)
    finally:
        _end(process)
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def ray_node(head: RayHead, *, num_cpus: int) -> Iterator[RayNode]:
    """Another node, as a machine of its own would be: in its own processes."""
    name = f"node-{secrets.token_hex(4)}"
    options = [f"--address={head.gcs_address}", f"--num-cpus={num_cpus}", f"--node-name={name}"]
    command = [*_RAY_START, *options, "--dashboard-agent-listen-port=0", "--disable-usage-stats"]
    with tempfile.NamedTemporaryFile(prefix=name) as output:
        process = subprocess.Popen(
            command,
            env={**os.environ, **_QUICK, **head.environment},
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
        try:
            wait_until(lambda: name in alive_nodes(head), timeout_seconds=_START_SECONDS)
            yield RayNode(name, process)
        finally:
            _end(process)


def alive_nodes(head: RayHead) -> dict[str, str]:
    """Ids of the nodes that live, by name."""
    headers = {"Authorization": f"Bearer {head.token}"}
    found = httpx2.get(f"{head.url}/api/v0/nodes", headers=headers, timeout=30).json()
    nodes = found["data"]["result"]["result"]
    return {node["node_name"]: node["node_id"] for node in nodes if node["state"] == "ALIVE"}


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on just now."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()


def _wait_until_ready(process: subprocess.Popen[bytes], url: str, token: str, output: Path) -> None:
    """The agent starts after the dashboard, so ask for what only the agent can refuse (see service/cluster/ray.py)."""
    probe = {"entrypoint": "true", "entrypoint_label_selector": {"cdm-probe": "!!not a value"}}
    deadline = time.monotonic() + _START_SECONDS
    with httpx2.Client(base_url=url, headers={"Authorization": f"Bearer {token}"}, timeout=30.0) as http:
        while time.monotonic() < deadline and process.poll() is None:
            try:
                if "status code 400" in http.post("/api/jobs/", json=probe).text:
                    return
            except httpx2.TransportError:
                pass
            time.sleep(0.2)
    raise RuntimeError(f"Ray did not start:\n{output.read_text(errors='replace')[-4000:]}")


def _end(process: subprocess.Popen[bytes]) -> None:
    """SIGTERM lets the head end its own children; what remains of its session is killed."""
    process.terminate()
    try:
        process.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
