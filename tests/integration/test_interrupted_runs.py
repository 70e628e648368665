"""`python -m workers` interrupted: stopped, killed, frozen, or without a place for its checkpoints."""

import random
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tests.support.ray_head import free_ports
from tests.support.waiting import wait_until
from tests.support.worker_command import (
    KEYS,
    PATIENCE_SECONDS,
    TELLING_AT_ONCE,
    command,
    environment,
    losses,
    run,
    shipped_log,
    write_spec,
)
from workers.contract.records import Outcome, Progress, Reason
from workers.storage.local import LocalStore
from workers.training.watchdog import EXIT_HUNG, HUNG

pytestmark = pytest.mark.timeout(600)
TORCHRUN = (sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--standalone", "-m", "workers")
IN_HASTE = """
import runpy
from workers.training import recorder
recorder._LAST_CHECKPOINT_SECONDS = recorder._ABANDONED_SECONDS = 1
runpy.run_module("workers", run_name="__main__")
"""
SAVING_AT_ONCE = f"""
from workers.training import schedule
schedule.LEAST_SECONDS = 0
{TELLING_AT_ONCE}"""

STUCK_AT_FIRST = """
import os, runpy, threading
from workers.training.world import World
if os.environ["RANK"] == "1":
    World.wrap = lambda world, module: threading.Event().wait()
runpy.run_module("workers", run_name="__main__")
"""


LONG = {"duration_images": 768, "cadence": {"log_images": 32, "checkpoint_images": 384}}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> LocalStore:
    """Of a long run that nothing happened to."""
    folder = tmp_path_factory.mktemp("undisturbed")
    write_spec(folder, **LONG)
    done = run(folder)
    assert done.returncode == 0, done.stderr
    return LocalStore(folder / "runs")


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path / "runs")


def test_sigterm_leaves_a_checkpoint_and_the_same_command_goes_on_from_it(tmp_path: Path, store: LocalStore) -> None:
    """However rarely it reports."""
    write_spec(tmp_path, duration_images=640, cadence={"log_images": 640, "checkpoint_images": 640})
    process = subprocess.Popen(command(tmp_path), env=environment(tmp_path), stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    for line in process.stdout:
        if "worker.ready" in line:
            break

    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=PATIENCE_SECONDS)
    stopped = Outcome.model_validate_json(store.get(KEYS.attempt(1).outcome))
    resumed = run(tmp_path)

    assert process.returncode == 0
    assert stopped.status == "stopped"
    assert 0 < stopped.images_seen < 640
    assert resumed.returncode == 0, resumed.stderr
    assert f"images_seen={stopped.images_seen} of=1" in resumed.stdout
    assert resumed.stdout.splitlines()[-1].startswith("succeeded at 640")


def test_processes_that_are_told_twice_to_leave_do_so_with_a_checkpoint(tmp_path: Path, store: LocalStore) -> None:
    """As under Slurm, which tells every process of a step, of which torchrun tells its own once more."""
    write_spec(tmp_path, duration_images=1_600_000, cadence={"log_images": 16, "checkpoint_images": 1_600_000})
    group = subprocess.Popen(
        command(tmp_path, launcher=TORCHRUN), env=environment(tmp_path), stdout=subprocess.DEVNULL, text=True
    )
    try:
        wait_until(lambda: losses(store), timeout_seconds=PATIENCE_SECONDS)
        everybody = [psutil.Process(group.pid), *psutil.Process(group.pid).children()]
        for process in everybody:
            process.terminate()
        group.wait(PATIENCE_SECONDS)
    finally:
        group.kill()

    stopped = Outcome.model_validate_json(store.get(KEYS.attempt(1).outcome))
    assert stopped.status == "stopped"
    assert store.list(f"{KEYS.checkpoint(stopped.images_seen, 1)}MANIFEST.json")


def test_a_run_that_is_killed_at_a_random_step_and_goes_on_is_the_run_that_was_not(
    tmp_path: Path, store: LocalStore, undisturbed: LocalStore
) -> None:
    killed_after = random.randrange(384, 544, 32)  # noqa: S311 (said in the message)
    write_spec(tmp_path, **LONG)
    launcher = (sys.executable, "-c", TELLING_AT_ONCE)
    killed = subprocess.Popen(command(tmp_path, launcher=launcher), env=environment(tmp_path), stdout=subprocess.PIPE)
    checkpoint = KEYS.checkpoint(384, 1)

    wait_until(
        lambda: max(losses(store), default=0) > killed_after and store.list(f"{checkpoint}MANIFEST.json"),
        timeout_seconds=PATIENCE_SECONDS,
    )
    killed.kill()
    killed.communicate()
    again = run(tmp_path)

    assert again.returncode == 0, (killed_after, again.stderr)
    for name in ("network", "ema", "optimizer"):
        ours, theirs = (KEYS.checkpoint(768, attempt) + f"{name}.safetensors" for attempt in (2, 1))
        assert store.get(ours) == undisturbed.get(theirs), killed_after
    progress = Progress.model_validate_json(store.get(KEYS.attempt(2).progress))
    assert progress.resume
    assert (progress.resume.verdict, progress.resume.images_seen) == ("bit_exact", 384)
    assert progress.resume.compared_rows > 0
    assert progress.ledger.recomputed > 0
    assert progress.ledger.useful > 0


def test_a_run_that_decides_itself_when_checkpoints_pay_is_the_run_that_was_told(
    tmp_path: Path, store: LocalStore, undisturbed: LocalStore
) -> None:
    """Killed after its first one, which here comes with the first row; the next would pay minutes later."""
    retention = {"keep_last": 1, "keep_every_images": 384}
    write_spec(tmp_path, duration_images=768, cadence={"log_images": 32, "checkpoint_images": "auto"} | retention)
    launcher = (sys.executable, "-c", SAVING_AT_ONCE)
    killed = subprocess.Popen(
        command(tmp_path, launcher=launcher), env=environment(tmp_path), stdout=subprocess.DEVNULL
    )
    wait_until(
        lambda: max(losses(store), default=0) >= 160 and store.list(f"{KEYS.checkpoint(32, 1)}MANIFEST.json"),
        timeout_seconds=PATIENCE_SECONDS,
    )
    killed.kill()
    killed.communicate()

    again = run(tmp_path, launcher=launcher)

    assert again.returncode == 0, again.stderr
    for name in ("network", "ema", "optimizer"):
        ours, theirs = (KEYS.checkpoint(768, attempt) + f"{name}.safetensors" for attempt in (2, 1))
        assert store.get(ours) == undisturbed.get(theirs)
    assert losses(store) | losses(store, attempt=2) == losses(undisturbed)
    assert [key for key in store.list(KEYS.checkpoints) if key.endswith("MANIFEST.json")] == [
        KEYS.checkpoint(384, 2) + "MANIFEST.json",
        KEYS.checkpoint(768, 2) + "MANIFEST.json",
    ]
    progress = Progress.model_validate_json(store.get(KEYS.attempt(2).progress))
    assert progress.resume
    assert (progress.resume.verdict, progress.resume.images_seen) == ("bit_exact", 32)
    assert progress.advised_checkpoint_images
    assert progress.advised_checkpoint_images % 16 == 0
    assert progress.ledger.preparing > 0


def test_a_store_that_takes_no_checkpoint_ends_the_attempt_which_says_how_far_it_had_come(
    tmp_path: Path, store: LocalStore
) -> None:
    write_spec(tmp_path)
    (tmp_path / "runs" / KEYS.root).mkdir(parents=True)
    (tmp_path / "runs" / KEYS.checkpoints.rstrip("/")).touch()  # where a folder would have to be

    failed = run(tmp_path, launcher=(sys.executable, "-c", IN_HASTE))

    outcome = Outcome.model_validate_json(store.get(KEYS.attempt(1).outcome))
    assert failed.returncode == 1
    assert (outcome.status, outcome.reason, outcome.images_seen) == ("failed", Reason.STORAGE_ERROR, 320)
    assert "has not taken the checkpoint at 160 images within 1 s" in outcome.message
    assert outcome.message in shipped_log(store, "driver")


def test_a_process_that_freezes_ends_the_other_which_says_where_it_waited(tmp_path: Path, store: LocalStore) -> None:
    write_spec(
        tmp_path,
        duration_images=1_600_000,
        cadence={"log_images": 16, "checkpoint_images": 1_600_000},
        compute={"workers": 2, "accelerator": "cpu", "hang_seconds": 3},
    )
    group = subprocess.Popen(
        command(tmp_path, launcher=TORCHRUN),
        env=environment(tmp_path),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        wait_until(lambda: losses(store), timeout_seconds=PATIENCE_SECONDS)
        ranks = {each.environ().get("RANK"): each for each in psutil.Process(group.pid).children()}

        ranks["1"].suspend()
        log = wait_until(
            lambda: HUNG in (log := shipped_log(store, "driver")) and log, timeout_seconds=PATIENCE_SECONDS
        )
        ranks["1"].kill()
        _, said = group.communicate(timeout=PATIENCE_SECONDS)
    finally:
        group.kill()

    assert group.returncode != 0
    assert f"exitcode  : {EXIT_HUNG} " in said
    assert "Thread MainThread:" in log
    assert "in _Loop.run" in log
    assert log.splitlines()[-1] in said
    assert "no step for 3 s" in log.splitlines()[-1]
    with pytest.raises(FileNotFoundError):
        store.get(KEYS.attempt(1).outcome)


def test_processes_that_do_not_come_to_their_first_step_are_ended_and_say_where_they_waited(
    tmp_path: Path, store: LocalStore
) -> None:
    compute = {"workers": 2, "accelerator": "cpu", "hang_seconds": 1, "start_seconds": 3}
    write_spec(tmp_path, compute=compute)
    place = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_ports(1)[0])}
    group = [
        subprocess.Popen(
            command(tmp_path, launcher=(sys.executable, "-c", STUCK_AT_FIRST)),
            env=environment(tmp_path) | place | {"RANK": rank, "LOCAL_RANK": rank},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in "01"
    ]
    try:
        said = [process.communicate(timeout=PATIENCE_SECONDS)[1] for process in group]
    finally:
        for process in group:
            process.kill()

    codes = [process.returncode for process in group]
    assert 0 not in codes
    hung = codes.index(EXIT_HUNG)  # of the other, too, unless it has seen this one end before
    log = shipped_log(store, ("driver", "rank-0001")[hung])
    assert "in Trainer.__init__" in log
    assert log.splitlines()[-1].startswith(f"error: {HUNG}: no first step for 3 s (compute.start_seconds); ")
    assert log.splitlines()[-1] in said[hung]
