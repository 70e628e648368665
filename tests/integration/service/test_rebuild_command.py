"""`cdm admin` beside the state folder of a stack whose database is lost."""

import hashlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from service.cli.rebuilding import object_store
from service.embedded.documents import Keys, Run
from service.embedded.folder import Folder
from service.embedded.ports import reserved
from service.embedded.seaweedfs import JOBS_BUCKET, client_environment
from service.identifiers import new_id
from service.jobs.lifecycle import JobState
from service.jobs.rebuild import record_of
from service.jobs.records import JobRecord
from workers.contract.keys import JobKeys
from workers.contract.presets import PRESETS
from workers.storage import open_store


@pytest.fixture
def folder() -> Iterator[Folder]:
    """As a stack leaves it that has run once."""
    with tempfile.TemporaryDirectory(prefix="cdm-") as scratch:
        folder = Folder.at(Path(scratch) / "home")
        folder.prepare()
        Keys.generate().write(folder.keys)
        with reserved({}, last=None) as ports:
            Run(pid=1, created_at=0, ready=False, ports=ports).write(folder.run)
        yield folder


def leave_a_job(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    run, keys = Run.read(folder.run), Keys.read(folder.keys)
    assert run
    assert keys
    spec, now = PRESETS["smoke"].model_dump_json(), datetime.now(UTC)
    job = JobRecord(
        id=new_id("job", at=now),
        spec=spec,
        spec_sha256=hashlib.sha256(spec.encode()).hexdigest(),
        state=JobState.SUCCEEDED,
        created_at=now,
        queued_at=now,
        ended_at=now,
        event_sequence=3,
    )
    with object_store(folder, run.ports, keys), monkeypatch.context() as environment:
        for name, value in client_environment(run.ports, keys).items():
            environment.setenv(name, value)
        store = open_store(f"s3://{JOBS_BUCKET}")
        store.put(JobKeys(job.id).spec, spec.encode())
        store.put(JobKeys(job.id).record, record_of(job, []))


def admin(folder: Folder, *arguments: str) -> "subprocess.CompletedProcess[str]":
    environment = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    command = [sys.executable, "-m", "service.cli", "admin", *arguments, "--home", str(folder.root)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def test_lost_jobs_are_restored_once_and_the_s3_server_is_stopped_again(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    leave_a_job(folder, monkeypatch)

    first, second = admin(folder, "rebuild"), admin(folder, "rebuild")

    assert (first.returncode, second.returncode) == (0, 0), first.stderr + second.stderr
    assert "restored 1 jobs" in first.stdout
    assert "restored 0 jobs" in second.stdout
    assert (folder.api / "service.db").exists()


def test_a_copy_is_made_beside_a_stack_that_runs_and_put_back_where_no_database_is(
    folder: Folder, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    leave_a_job(folder, monkeypatch)
    copy, database = str(tmp_path / "copy.db"), folder.api / "service.db"
    assert admin(folder, "rebuild").returncode == 0
    with folder.exclusive():
        saved = admin(folder, "backup", copy)
    leave_a_job(folder, monkeypatch)

    refused = admin(folder, "restore", copy)
    for file in folder.api.glob("service.db*"):
        file.rename(tmp_path / file.name)
    restored = admin(folder, "restore", copy)

    assert (saved.returncode, saved.stdout) == (0, f"copied the database to {copy}; now copy s3://cdm\n")
    assert refused.returncode == 1
    assert refused.stderr == f"error: {database} is there: move service.db* away first\n"
    assert restored.returncode == 0, restored.stderr
    assert "restored 1 jobs" in restored.stdout


def test_a_stack_that_runs_is_left_alone(folder: Folder) -> None:
    with folder.exclusive():
        refused = admin(folder, "rebuild")

    assert refused.returncode == 1
    assert refused.stderr.startswith("error: a stack already runs from ")
    assert refused.stderr.count("\n") == 1
