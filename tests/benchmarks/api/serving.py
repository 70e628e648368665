"""The service as a process of its own, on one core; whoever asks it, and Postgres, have the others."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

from tests.support.ray_head import free_ports

KEY = "benchmark-key-0123456789"
_START_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Served:
    url: str
    pid: int

    def cpu_seconds(self) -> float:
        """Processor time it has used so far."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def cores() -> tuple[set[int], set[int]]:
    """The service's core and the others; the same where there is only one."""
    first, *others = sorted(os.sched_getaffinity(0))
    return {first}, set(others) or {first}


@contextmanager
def serving(folder: Path, database_url: str, *, core: set[int], profile: Path | None = None) -> Iterator[Served]:
    """Start it as `cdm up` does, but for its parts: objects in a folder, an engine in memory, no MLflow."""
    [port] = free_ports(1)
    profiler = ("-m", "cProfile", "-o", str(profile)) if profile else ()
    command = (sys.executable, *profiler, "-m", "uvicorn", "service.app:create_app_from_environment", "--factory")
    options = ("--host", "127.0.0.1", "--port", str(port), "--log-level", "warning", "--timeout-graceful-shutdown", "3")
    with (folder / "service.log").open("wb") as log:
        process = subprocess.Popen([*command, *options], env=_environment(folder, database_url), stdout=log, stderr=log)
    os.sched_setaffinity(process.pid, core)
    served = Served(f"http://127.0.0.1:{port}", process.pid)
    try:
        _wait_until_ready(served, process, folder / "service.log")
        yield served
    finally:
        process.send_signal(signal.SIGINT)  # at SIGTERM the profiler would not write down what it has
        process.wait()


def _environment(folder: Path, database_url: str) -> dict[str, str]:
    return {
        **os.environ,
        "CDM_API_KEY": KEY,
        "CDM_STATE_FOLDER": str(folder),
        "CDM_DATABASE_URL": database_url,
        "CDM_STORE_URL": (folder / "objects").as_uri(),
        "CDM_RAY_URL": "memory://benchmark",
        "CDM_MLFLOW_URL": "http://127.0.0.1:9",
        "CDM_REQUESTS__PER_MINUTE": str(10**9),
    }


def _wait_until_ready(served: Served, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with urlopen(f"{served.url}/healthz"):  # noqa: S310 (our own)
                return
        except URLError:
            time.sleep(0.05)
    raise RuntimeError(f"the service did not start:\n{log.read_text()[-4000:]}")
