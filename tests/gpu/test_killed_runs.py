"""`python -m workers` on a GPU, killed and run again."""

import random
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.waiting import wait_until
from tests.support.worker_command import (
    KEYS,
    PATIENCE_SECONDS,
    TELLING_AT_ONCE,
    command,
    environment,
    losses,
    run,
    write_spec,
)
from workers.contract.records import Outcome, Progress, Reason
from workers.storage.local import LocalStore

pytestmark = pytest.mark.timeout(600)
WITH_LITTLE_MEMORY = """
import runpy, torch
torch.cuda.set_per_process_memory_fraction(0.005)
runpy.run_module("workers", run_name="__main__")
"""


def test_a_run_that_is_killed_at_a_random_step_and_goes_on_is_the_run_that_was_not(tmp_path: Path) -> None:
    """With deterministic kernels: the same weights, averages and moments, bit by bit."""
    (tmp_path / "undisturbed").mkdir()
    for folder in (tmp_path, tmp_path / "undisturbed"):
        write_spec(
            folder,
            duration_images=4800,
            cadence={"log_images": 32, "checkpoint_images": 1600},
            compute={"accelerator": "gpu", "deterministic": True},
        )
    killed_after = random.randrange(1600, 2400, 32)  # noqa: S311 (said in the message)
    killed, undisturbed = (
        subprocess.Popen(
            command(folder, launcher=(sys.executable, "-c", TELLING_AT_ONCE)),
            env=environment(folder),
            stdout=subprocess.DEVNULL,
        )
        for folder in (tmp_path, tmp_path / "undisturbed")
    )
    store, other = LocalStore(tmp_path / "runs"), LocalStore(tmp_path / "undisturbed" / "runs")
    try:
        wait_until(
            lambda: (
                max(losses(store), default=0) > killed_after and store.list(f"{KEYS.checkpoint(1600, 1)}MANIFEST.json")
            ),
            timeout_seconds=PATIENCE_SECONDS,
        )
        killed.kill()
        again = run(tmp_path)
        undisturbed.wait(PATIENCE_SECONDS)
    finally:
        killed.kill()
        undisturbed.kill()

    assert (undisturbed.returncode, again.returncode) == (0, 0), (killed_after, again.stderr)
    for name in ("network", "ema", "optimizer"):
        ours, theirs = (KEYS.checkpoint(4800, attempt) + f"{name}.safetensors" for attempt in (2, 1))
        assert store.get(ours) == other.get(theirs), killed_after
    progress = Progress.model_validate_json(store.get(KEYS.attempt(2).progress))
    assert progress.resume
    assert progress.resume.verdict == "bit_exact"


def test_memory_that_will_not_do_is_known_before_the_first_step_and_the_batch_is_named(tmp_path: Path) -> None:
    cadence = {"log_images": 8192, "checkpoint_images": 8192}
    write_spec(tmp_path, batch_images=8192, duration_images=819_200, cadence=cadence, compute={"accelerator": "gpu"})

    failed = run(tmp_path, launcher=(sys.executable, "-c", WITH_LITTLE_MEMORY))

    outcome = Outcome.model_validate_json(LocalStore(tmp_path / "runs").get(KEYS.attempt(1).outcome))
    assert failed.returncode == 1, failed.stderr[-2000:]
    assert (outcome.reason, outcome.images_seen) == (Reason.OUT_OF_MEMORY, 0)
    assert "8192 images" in outcome.message
