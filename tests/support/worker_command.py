"""`python -m workers` as a user runs it: real processes, a real folder, no service and no Ray."""

import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import redirect_stderr
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import structlog

from tests.support.specs import smoke_spec
from workers.__main__ import main
from workers.contract.keys import JobKeys
from workers.storage.local import LocalStore

KEYS = JobKeys("job")
# Rows gather for seconds, in which all of a test may be over.
TELLING_AT_ONCE = """
import runpy
from workers.tracking import reporter
reporter.GATHER_SECONDS = 0.05
runpy.run_module("workers", run_name="__main__")
"""
PATIENCE_SECONDS = 240.0  # a run takes ten seconds on a quiet machine, ten times that on a busy one


def write_spec(folder: Path, **changes: Any) -> Path:
    path = folder / "job.json"
    path.write_text(smoke_spec(**changes).model_dump_json())
    return path


def command(
    folder: Path, *more: str, job: str = "job", launcher: Sequence[str] = (sys.executable, "-m", "workers")
) -> list[str]:
    return [*launcher, str(folder / f"{job}.json"), "--store", str(folder / "runs"), *more]


def environment(folder: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "MLFLOW_", "AWS_"))}
    return kept | {"CDM_CACHE": str(folder / "cache"), "OMP_NUM_THREADS": "1"}


def run(folder: Path, *more: str, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(folder, *more, **options),
        capture_output=True,
        text=True,
        env=environment(folder),
        timeout=PATIENCE_SECONDS,
        check=False,
    )


@dataclass(frozen=True, slots=True)
class Refusal:
    """How the command ended."""

    returncode: int
    stderr: str


def refused(folder: Path, *more: str, store: str | None = None) -> Refusal:
    """The command in this process, where nothing is trained: starting another one takes seconds."""
    arguments = [str(folder / "job.json"), "--store", store or str(folder / "runs"), *more]
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    errors = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stderr(errors):
        patch.setattr(sys, "argv", ["python -m workers", *arguments])
        for name in [name for name in os.environ if name.startswith(("RAY_", "AWS_"))]:
            patch.delenv(name)
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        patch.setenv("HOME", str(folder))
        try:
            code = main()
        finally:
            structlog.reset_defaults()
            for number, handler in handlers.items():
                signal.signal(number, handler)
    return Refusal(code, errors.getvalue())


def metric_rows(store: LocalStore, attempt: int = 1) -> list[dict[str, float]]:
    chunks = [store.get(key).decode() for key in store.list(KEYS.attempt(attempt).metrics)]
    return [json.loads(line) for chunk in chunks for line in chunk.splitlines()]


def shipped_log(store: LocalStore, source: str, attempt: int = 1) -> str:
    keys = KEYS.attempt(attempt)
    return b"".join(store.get(key) for key in store.list(keys.log_stream(source))).decode()


def losses(store: LocalStore, attempt: int = 1) -> dict[float, float]:
    return {row["images_seen"]: row["loss/dsm"] for row in metric_rows(store, attempt) if "loss/dsm" in row}
