"""A real Ray head for tests: one `ray start --block`, on free ports, behind a token, ended by its own pid."""

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

_START_SECONDS = 180.0  # 6 s on a quiet machine, half a minute and more on a busy one
_STOP_SECONDS = 20.0


@dataclass(frozen=True, slots=True)
class RayHead:
    """`url` is the dashboard's; `gcs_address` is what `ray.init(address=...)` takes."""

    url: str
    token: str
    gcs_address: str
    pid: int
    environment: Mapping[str, str]  # for processes that shall join it: authentication


@contextmanager
def ray_head(*, num_cpus: int = 4, environment: Mapping[str, str] | None = None) -> Iterator[RayHead]:
    """Start it, wait until it takes submissions, and end it. `environment` reaches every job."""
    token = secrets.token_hex(16)
    authentication = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": token}
    port, dashboard_port, client_port = free_ports(3)
    folder = tempfile.mkdtemp(prefix="ray", dir="/tmp")
    command = [
        str(Path(sys.executable).with_name("ray")),
        "start",
        "--head",
        "--block",
        f"--port={port}",
        f"--dashboard-port={dashboard_port}",
        f"--ray-client-server-port={client_port}",
        "--dashboard-agent-listen-port=0",  # the fixed one is taken where another Ray runs on this host
        f"--num-cpus={num_cpus}",
        "--disable-usage-stats",
        "--no-monitor",  # as `cdm up` starts it (service/embedded/ray.py)
        f"--temp-dir={folder}",
    ]
    quick = {"RAY_raylet_start_wait_time_s": "180", "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": "2"}
    variables = {**os.environ, **quick, **authentication, **(environment or {})}
    output = Path(folder, "head.log")
    with output.open("wb") as file:
        process = subprocess.Popen(command, env=variables, stdout=file, stderr=file, start_new_session=True)
    try:
        url = f"http://127.0.0.1:{dashboard_port}"
        _wait_until_ready(process, url, token, output)
        yield RayHead(url, token, f"127.0.0.1:{port}", process.pid, authentication)
    finally:
        _end(process)
        shutil.rmtree(folder, ignore_errors=True)


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
