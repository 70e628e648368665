"""The stack of docker-compose.yml on a real Docker engine, from a copy of the checkout, as a user starts it."""

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from service.client import Client
from tests.support.ray_head import free_ports

ROOT = Path(__file__).parents[2]
_IMAGES = ROOT / "tests/support/container_images"
_STAND_INS = {
    "postgres:17-alpine": "postgres",
    "chrislusf/seaweedfs:4.48": "seaweedfs",
    "prom/prometheus:v3.5.0": "prometheus",
}
_CA = Path("/etc/ssl/certs/ca-certificates.crt")
_UP_SECONDS = 300.0


@dataclass(frozen=True, kw_only=True)
class Compose:
    """A stack and how to reach it. `folder` is the copy of the checkout it was started from."""

    folder: Path
    project: str
    api_port: int
    mlflow_port: int

    @property
    def secrets(self) -> dict[str, str]:
        lines = (self.folder / ".env").read_text().splitlines()
        return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))

    def client(self) -> Client:
        return Client(f"http://127.0.0.1:{self.api_port}", self.secrets["CDM_API_KEY"], timeout_seconds=30)

    def run(self, *arguments: str, check: bool = True, stdin: str | None = None) -> str:
        """`docker compose ...`; its standard output."""
        return output_of("docker", "compose", *arguments, folder=self.folder, check=check, stdin=stdin)

    def up(self, *arguments: str) -> float:
        """Start what does not run, and wait until all is healthy; the seconds it took."""
        begin = time.monotonic()
        self.run("up", "--detach", "--wait", "--wait-timeout", str(int(_UP_SECONDS)), *arguments)
        return time.monotonic() - begin

    def containers(self, service: str) -> list[str]:
        """Their identifiers, running or not."""
        return self.run("ps", "--all", "--quiet", service).split()

    def kill(self, service: str) -> None:
        """End a container as a crash does; after `docker kill`, a wish of somebody, nothing is restarted."""
        (container, *_) = self.containers(service)
        os.kill(int(inspect(container, "{{.State.Pid}}")), signal.SIGKILL)

    @contextmanager
    def frozen(self, service: str) -> Iterator[None]:
        """None of its processes moves, and its connections stay open. (`docker pause` may hang on a health check.)"""
        (container, *_) = self.containers(service)
        stopped: set[int] = set()
        try:
            while begun := _processes_of(container) - stopped:  # until none has begun another meanwhile
                for pid in begun:
                    os.kill(pid, signal.SIGSTOP)
                stopped |= begun
            yield
        finally:
            for pid in stopped:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGCONT)

    @contextmanager
    def cut_off(self, service: str) -> Iterator[None]:
        """Its network is gone, and comes back."""
        (container, *_) = self.containers(service)
        network = f"{self.project}_jobs"
        output_of("docker", "network", "disconnect", network, container)
        try:
            yield
        finally:
            output_of("docker", "network", "connect", network, container)

    def is_well(self, service: str) -> bool:
        """Whether its own health check, made now from within, finds an answer within seconds."""
        test = inspect(self.containers(service)[0], "{{json .Config.Healthcheck.Test}}")
        kind, *command = json.loads(test)
        asked = command if kind == "CMD" else ["sh", "-c", *command]
        asking = ("docker", "exec", self.containers(service)[0], "timeout", "-s", "KILL", "8", *asked)
        return _ended(*asking).returncode == 0

    def restarts(self, service: str) -> int:
        (container, *_) = self.containers(service)
        return int(inspect(container, "{{.RestartCount}}"))


def why_not() -> str | None:
    """Why these tests cannot run here, if they cannot."""
    if shutil.which("docker") is None or _ended("docker", "info").returncode:
        return "no Docker engine answers"
    if _ended("docker", "compose", "version").returncode:
        return "the Docker engine has no Compose"
    if os.geteuid():
        return "containers are killed by their process: these tests need root"
    return None


@contextmanager
def compose_stack(folder: Path, *, keep_images: bool = True) -> Iterator[Compose]:
    """A stack of two Ray nodes with a CPU each, made as the README says; it is gone afterwards, with what it kept."""
    api_port, mlflow_port, s3_port = free_ports(3)
    stack = Compose(folder=folder, project=f"cdm-test-{os.getpid()}", api_port=api_port, mlflow_port=mlflow_port)
    _copy_checkout(folder)
    _make_images_that_cannot_be_pulled()
    output_of("deploy/compose/init.sh", folder=folder)
    chosen = {
        "COMPOSE_PROJECT_NAME": stack.project,
        "COMPOSE_FILE": "docker-compose.yml:tests/support/container_images/build.yml",
        "CDM_VERSION": "test",
        "API_PORT": str(api_port),
        "MLFLOW_PORT": str(mlflow_port),
        "S3_PORT": str(s3_port),
        "RAY_WORKER_CPUS": "1",
        "CA": str(_CA),
        "WHEELS": str(_wheels(folder)),
        "TORCH_INDEX": "",  # a wheel in WHEELS, else the package index's own build
    }
    with (folder / ".env").open("a") as file:
        file.writelines(f"{name}={value}\n" for name, value in chosen.items())
    try:
        yield stack
    finally:
        stack.run("--profile", "*", "down", "--volumes", "--remove-orphans", "--timeout", "5", check=False)


def inspect(container: str, what: str) -> str:
    """`docker inspect` with a template."""
    return output_of("docker", "inspect", "--format", what, container).strip()


def _processes_of(container: str) -> set[int]:
    """Their numbers outside of it, those of health checks left out: they come and go."""
    rows = output_of("docker", "top", container, "-eo", "pid,args").splitlines()[1:]
    return {int(pid) for pid, command in (row.split(maxsplit=1) for row in rows) if not _is_check(command)}


def _is_check(command: str) -> bool:
    return any(name in command for name in ("/usr/local/bin/probe", "wget", "psql"))


def published(container: str) -> list[str]:
    """The addresses of this machine that lead into it."""
    bindings = json.loads(inspect(container, "{{json .HostConfig.PortBindings}}")) or {}
    return [binding["HostIp"] for found in bindings.values() for binding in found]


def _copy_checkout(folder: Path) -> None:
    listed = output_of("git", "ls-files", "--cached", "--others", "--exclude-standard", "-z", folder=ROOT)
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)


def _make_images_that_cannot_be_pulled() -> None:
    for image, name in _STAND_INS.items():
        if _ended("docker", "image", "inspect", image).returncode and _ended("docker", "pull", image).returncode:
            secret = f"id=ca,src={_CA}"
            output_of("docker", "build", "--quiet", "--secret", secret, "--tag", image, str(_IMAGES / name))


def _wheels(folder: Path) -> Path:
    """A build of PyTorch that lies on this machine, where pip is told of one; else an empty folder."""
    found = folder / "wheels"
    found.mkdir()
    for place in os.environ.get("PIP_FIND_LINKS", "").split():
        for wheel in Path(place).glob("torch-*.whl"):
            os.link(wheel, found / wheel.name) if wheel.stat().st_dev == found.stat().st_dev else shutil.copy(
                wheel, found
            )
    return found


def output_of(*command: str, folder: Path | None = None, check: bool = True, stdin: str | None = None) -> str:
    ended = _ended(*command, folder=folder, stdin=stdin)
    if check and ended.returncode:
        raise AssertionError(f"{' '.join(command)}: exit code {ended.returncode}\n{ended.stdout}\n{ended.stderr}")
    return ended.stdout


def _ended(*command: str, folder: Path | None = None, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=folder, input=stdin, capture_output=True, text=True, check=False)
