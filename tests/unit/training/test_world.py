"""Processes that work together: waiting for each other, and what one says."""

from pathlib import Path

import pytest
import torch

from tests.support.gloo import in_processes, joined
from tests.support.specs import smoke_spec
from tests.support.waiting import wait_until
from workers.training.world import World, local_device, why_no_gpu

SIZE = 4


def test_a_barrier_waits_for_the_last(tmp_path: Path) -> None:
    """The last one comes only when the first has been there for a while, by what it can see."""
    in_processes(SIZE, _wait, tmp_path)

    assert (tmp_path / "seen").read_text() == "the last was there"


def _wait(rank: int, port: int, folder: Path) -> None:
    with joined(rank, SIZE, port) as world:
        if rank == 0:
            (folder / "first").touch()
        if rank == SIZE - 1:
            wait_until(lambda: (folder / "first").exists(), timeout_seconds=60)
            (folder / "last").touch()
        world.barrier()
        if rank == 0:
            (folder / "seen").write_text("the last was there" if (folder / "last").exists() else "the last was missing")


def test_what_one_says_goes_for_all(tmp_path: Path) -> None:
    in_processes(SIZE, _say, tmp_path)

    assert {name.read_text() for name in tmp_path.iterdir()} == {"nobody: False, the second: True, all: True"}


def _say(rank: int, port: int, folder: Path) -> None:
    with joined(rank, SIZE, port) as world:
        said = f"nobody: {world.any(False)}, the second: {world.any(rank == 1)}, all: {world.any(True)}"
    (folder / str(rank)).write_text(said)


def test_more_processes_than_gpus_are_refused_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setenv("LOCAL_RANK", "2")

    with pytest.raises(ValueError, match="process 2 of this machine has no GPU, PyTorch sees 2: start fewer processes"):
        local_device("gpu")


def test_processes_of_slurm_that_no_torchrun_joins_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RANK", raising=False)
    monkeypatch.delenv("SLURM_PTY_PORT", raising=False)
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "8")

    with pytest.raises(ValueError, match=r"srun has started 8 processes .*: start torchrun, one task a node"):
        World.from_environment(smoke_spec().compute)


@pytest.mark.parametrize(
    "said",
    [{}, {"SLURM_STEP_NUM_TASKS": "1"}, {"SLURM_STEP_NUM_TASKS": "8", "SLURM_PTY_PORT": "40001"}],
    ids=["batch script", "one task", "interactive shell"],
)
def test_one_process_of_slurm_is_alone(said: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "SLURM_STEP_NUM_TASKS", "SLURM_PTY_PORT"):
        monkeypatch.delenv(name, raising=False)
    for name, value in ({"SLURM_NTASKS": "8"} | said).items():
        monkeypatch.setenv(name, value)

    assert World.from_environment(smoke_spec().compute).size == 1


def test_why_there_is_no_gpu_is_said_in_pytorchs_own_words(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> None:
        raise RuntimeError("The NVIDIA driver on your system is too old (found version 12080).\nPlease update it.")

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "init", refuse)
    monkeypatch.setattr(torch.version, "cuda", "13.0")

    said = why_no_gpu()

    assert said is not None
    assert said.startswith(f"PyTorch {torch.__version__} (CUDA 13.0) sees no GPU on ")
    assert said.endswith(": RuntimeError: The NVIDIA driver on your system is too old (found version 12080).")
    with pytest.raises(ValueError, match=r"compute\.accelerator: PyTorch .* \(CUDA 13\.0\) sees no GPU"):
        local_device("gpu")


def test_of_a_gpu_that_is_there_nothing_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)

    assert why_no_gpu() is None
