"""The whole stack, started as a user starts it: `cdm up`, in a folder of its own."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from service.client import Client
from workers.storage.s3 import S3Store

_START_SECONDS = 200


@dataclass(frozen=True)
class Stack:
    """A running stack and how to reach it."""

    home: Path
    client: Client
    store: S3Store

    def cdm(self, *arguments: str, timeout_seconds: float = _START_SECONDS) -> subprocess.CompletedProcess[str]:
        """Run the `cdm` command against this stack."""
        return run_cdm(self.home, arguments, timeout_seconds=timeout_seconds)

    def processes(self, *words: str) -> list[psutil.Process]:
        """This stack's processes whose command line has all these words."""
        mark = json.loads((self.home / "keys.json").read_text())["mark"]
        return [
            process
            for process in psutil.process_iter()
            if _environment(process).get("CDM_STACK") == mark and all(word in _command(process) for word in words)
        ]


def run_cdm(
    home: Path, arguments: Sequence[str], *, timeout_seconds: float = _START_SECONDS
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(Path(sys.executable).with_name("cdm")), *arguments],
        env=os.environ | {"CDM_HOME": str(home)},
        capture_output=True,
        text=True,
        timeout=timeout_seconds,
        check=False,
    )


@pytest.fixture(scope="session")
def stack() -> Iterator[Stack]:
    scratch = tempfile.TemporaryDirectory(prefix="cdm-")  # short, as homes are: Ray's sockets lie in it
    home = Path(scratch.name) / "home"
    started = run_cdm(home, ["up", "--detach"])
    try:
        assert started.returncode == 0, started.stderr
        connection = json.loads((home / "connection.json").read_text())
        keys = json.loads((home / "keys.json").read_text())
        ports = json.loads((home / "run.json").read_text())["ports"]
        with pytest.MonkeyPatch.context() as environment:
            environment.setenv("AWS_ENDPOINT_URL_S3", f"http://127.0.0.1:{ports['s3']}")
            environment.setenv("AWS_ACCESS_KEY_ID", keys["s3_access_key"])
            environment.setenv("AWS_SECRET_ACCESS_KEY", keys["s3_secret_key"])
            with Client(connection["url"], connection["api_key"]) as client:
                yield Stack(home, client, S3Store.connect("cdm"))
    finally:
        ended = run_cdm(home, ["down"])
        scratch.cleanup()
    assert ended.returncode == 0, ended.stderr


def _environment(process: psutil.Process) -> dict[str, str]:
    try:
        return process.environ()
    except psutil.Error:
        return {}


def _command(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""
