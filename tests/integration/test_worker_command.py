"""`python -m workers` as a user runs it: what it takes, what it refuses, what it writes."""

import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support.specs import smoke_spec
from tests.support.waiting import wait_until
from tests.support.worker_command import (
    KEYS,
    PATIENCE_SECONDS,
    command,
    environment,
    losses,
    metric_rows,
    refused,
    run,
    shipped_log,
    write_spec,
)
from workers.contract.keys import JobKeys
from workers.contract.records import CheckpointManifest, CheckpointRef, Outcome, Progress, Reason
from workers.jobs.attempt import open_job, place_spec
from workers.storage.local import LocalStore

pytestmark = pytest.mark.timeout(600)


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path / "runs")


@dataclass(frozen=True)
class Done:
    """A job that one process has run."""

    folder: Path
    printed: str

    @property
    def store(self) -> LocalStore:
        return LocalStore(self.folder / "runs")


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Done:
    """In a folder with a name that URLs may not have."""
    folder = tmp_path_factory.mktemp("für später", numbered=False)
    write_spec(folder)
    first = run(folder)
    assert first.returncode == 0, first.stderr
    return Done(folder, first.stdout)


def test_a_job_runs_alone_and_the_same_command_again_adds_nothing(done: Done) -> None:
    store = done.store

    second = run(done.folder)

    assert done.printed.splitlines()[-1] == "succeeded at 320 images"
    assert second.returncode == 0, second.stderr
    assert len(losses(store)) == 10
    assert [key for key in store.list(KEYS.checkpoints) if key.endswith("MANIFEST.json")] == [
        "jobs/job/checkpoints/000000000160-0001/MANIFEST.json",
        "jobs/job/checkpoints/000000000320-0001/MANIFEST.json",
    ]
    assert store.get(KEYS.sample(320)).startswith(b"\x89PNG")
    progress = Progress.model_validate_json(store.get(KEYS.attempt(1).progress))
    assert (progress.images_seen, progress.last_checkpoint_images) == (320, 320)
    assert progress.device
    assert progress.peak_memory_bytes
    assert progress.peak_memory_bytes > 10 << 20
    assert metric_rows(store, attempt=2) == []


def test_two_processes_under_torchrun_train_what_one_does(tmp_path: Path, store: LocalStore, done: Done) -> None:
    write_spec(tmp_path)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--standalone", "-m", "workers"]

    together = run(tmp_path, launcher=torchrun)

    assert together.returncode == 0, together.stderr
    assert "of=2 rank=1" in together.stdout
    assert "of=2 rank=0" in shipped_log(store, "driver")
    assert "of=2 rank=1" in shipped_log(store, "rank-0001")
    assert losses(store) == pytest.approx(losses(done.store), rel=1e-4)


def test_an_attempt_that_somebody_runs_is_left_alone(tmp_path: Path, store: LocalStore) -> None:
    write_spec(tmp_path)
    store.put(KEYS.attempt(3).claim, b"{}")

    taken, passed = refused(tmp_path, "--attempt", "3"), refused(tmp_path, "--attempt", "2")

    assert taken.returncode == passed.returncode == 86
    assert "error: attempt 2 of job is not free (newest: 3)" in passed.stderr
    assert store.list(KEYS.checkpoints) == []


def test_wrong_specs_are_refused_in_one_line_before_anything_is_written(tmp_path: Path, store: LocalStore) -> None:
    missing = refused(tmp_path)
    (tmp_path / "job.json").write_text('{"kind": "train", "seed": "1"}')
    invalid = refused(tmp_path)
    (tmp_path / "job.json").write_text("{")
    torn = refused(tmp_path)

    for refusal in (missing, invalid, torn):
        assert refusal.returncode == 2
        assert refusal.stderr.startswith("error: ")
        assert len(refusal.stderr.splitlines()) == 1
    assert "No such file" in missing.stderr
    assert "dataset: this field is required" in invalid.stderr
    assert "seed: must be a whole number" in invalid.stderr
    assert not (tmp_path / "runs").exists()


def test_a_store_that_cannot_be_used_is_named_in_one_line(tmp_path: Path) -> None:
    write_spec(tmp_path)
    (tmp_path / "file").touch()

    for store in ("ftp://somewhere", "s3://bucket/prefix", str(tmp_path / "file")):
        refusal = refused(tmp_path, store=store)

        assert refusal.returncode == 2, refusal.stderr
        assert refusal.stderr.startswith("error: cannot use the store ")
        assert len(refusal.stderr.splitlines()) == 1


def test_a_job_never_changes_its_spec(tmp_path: Path) -> None:
    place_spec(open_job(str(write_spec(tmp_path)), str(tmp_path / "runs")))
    write_spec(tmp_path, seed=1)

    changed = run(tmp_path)

    assert changed.returncode == 2
    assert "with another spec: rename the file" in changed.stderr


@pytest.mark.parametrize(
    ("changes", "reason", "message"),
    [
        ({"dataset": {"kind": "folder", "path": "/nowhere"}}, Reason.DATA_ERROR, "/nowhere"),
        (
            {"network": {"kind": "ddpmpp", "channels": 8, "channel_multipliers": [1] * 6}},
            Reason.INVALID_SPEC,
            "network.channel_multipliers: 6 levels need a resolution divisible by 32",
        ),
        (
            {"optimizer": {"learning_rate": 1e30}},
            Reason.NON_FINITE_LOSS,
            "before 64 images most losses are not finite",
        ),
    ],
)
def test_what_fails_says_why_in_its_outcome(
    tmp_path: Path, store: LocalStore, changes: dict[str, Any], reason: Reason, message: str
) -> None:
    write_spec(tmp_path, **changes)

    failed = run(tmp_path)

    outcome = Outcome.model_validate_json(store.get(KEYS.attempt(1).outcome))
    assert failed.returncode == 1
    assert (outcome.status, outcome.reason) == ("failed", reason)
    assert message in outcome.message
    assert "Traceback" not in failed.stderr


def test_progress_is_written_while_training(tmp_path: Path, store: LocalStore) -> None:
    write_spec(tmp_path, duration_images=16_000, cadence={"log_images": 16, "checkpoint_images": 16_000})
    process = subprocess.Popen(command(tmp_path), env=environment(tmp_path), stdout=subprocess.DEVNULL)

    def progress() -> Progress | None:
        try:
            return Progress.model_validate_json(store.get(KEYS.attempt(1).progress))
        except FileNotFoundError:
            return None

    try:
        seen = wait_until(lambda: (now := progress()) and now.images_seen > 0 and now, timeout_seconds=PATIENCE_SECONDS)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(PATIENCE_SECONDS)

    assert seen.phase == "training"
    assert seen.eta_seconds is not None
    assert set(seen.losses) == {"dsm", "consistency"}


def test_what_is_printed_is_in_the_store_while_training_and_afterwards(tmp_path: Path, store: LocalStore) -> None:
    write_spec(tmp_path, duration_images=16_000, cadence={"log_images": 16, "checkpoint_images": 16_000})
    secret = {"SOME_PASSWORD": "training.progress"}  # it certainly prints this
    process = subprocess.Popen(command(tmp_path), env=environment(tmp_path) | secret, stdout=subprocess.PIPE, text=True)

    try:
        during = wait_until(
            lambda: "images_per_second" in (log := shipped_log(store, "driver")) and log,
            timeout_seconds=PATIENCE_SECONDS,
        )
    finally:
        process.send_signal(signal.SIGTERM)
        printed, _ = process.communicate(timeout=PATIENCE_SECONDS)

    log = shipped_log(store, "driver")
    assert log.startswith(during)
    assert "attempt.claimed" in log.splitlines()[0]
    assert "attempt.ended" in log.splitlines()[-1]
    assert printed.startswith(log)  # after it, only how the command ended
    assert "[redacted] " in log
    assert "training.progress" not in printed


def test_a_fork_goes_on_where_its_origin_was_and_commits_checkpoints_of_its_own(done: Done) -> None:
    store, fork = done.store, JobKeys("fork")
    origin = CheckpointRef(job_id="job", images_seen=160, attempt=1)
    store.put(fork.origin, origin.model_dump_json().encode())
    changed = smoke_spec(duration_images=480, optimizer={"learning_rate": 1e-4})
    (done.folder / "fork.json").write_text(changed.model_dump_json())

    forked = run(done.folder, job="fork")

    assert forked.returncode == 0, forked.stderr
    assert "origin.restored images_seen=160 origin=job" in forked.stdout
    committed = [
        CheckpointManifest.model_validate_json(store.get(key)).images_seen
        for key in store.list(fork.checkpoints)
        if key.endswith("MANIFEST.json")
    ]
    assert committed == [320, 480]


def test_a_fork_that_does_not_fit_its_origin_says_what_to_change(tmp_path: Path, store: LocalStore) -> None:
    write_spec(tmp_path)
    store.put(KEYS.origin, CheckpointRef(job_id="gone", images_seen=160, attempt=1).model_dump_json().encode())

    failed = run(tmp_path)

    outcome = Outcome.model_validate_json(store.get(KEYS.attempt(1).outcome))
    assert failed.returncode == 1
    assert outcome.reason is Reason.INVALID_SPEC
    assert "origin: the checkpoint of gone at 160 images is not there" in outcome.message
