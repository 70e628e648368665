"""`python -m workers` as a user runs it: real processes, a real folder, no service and no Ray."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.support.specs import smoke_spec
from workers.contract.keys import JobKeys
from workers.storage.local import LocalStore

KEYS = JobKeys("job")
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


def metric_rows(store: LocalStore, attempt: int = 1) -> list[dict[str, float]]:
    chunks = [store.get(key).decode() for key in store.list(KEYS.attempt(attempt).metrics)]
    return [json.loads(line) for chunk in chunks for line in chunk.splitlines()]


def shipped_log(store: LocalStore, source: str, attempt: int = 1) -> str:
    keys = KEYS.attempt(attempt)
    return b"".join(store.get(key) for key in store.list(keys.log_stream(source))).decode()


def losses(store: LocalStore, attempt: int = 1) -> dict[float, float]:
    return {row["images_seen"]: row["loss/dsm"] for row in metric_rows(store, attempt) if "loss/dsm" in row}
