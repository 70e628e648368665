"""What the processes of a run do together beside their steps."""

import socket
from pathlib import Path
from unittest.mock import MagicMock, call, patch

import pytest

from tests.support.gloo import in_processes, joined
from tests.support.specs import smoke_spec
from workers.contract.records import Reason
from workers.training import backend
from workers.training.loop import _Loop, _mixed_code, run_training
from workers.training.run import Run, RunRequests

SIZE = 3


@pytest.mark.parametrize("is_first", [True, False])
def test_all_wait_for_the_last_checkpoint_with_no_other_limit_than_the_stores(is_first: bool) -> None:
    """What follows are collectives, which give up after minutes."""
    seen = MagicMock()
    loop = _Loop(seen.world, smoke_spec(), seen.state, seen.images, seen.recorder if is_first else None, seen.watchdog)

    loop._checkpoint(is_last=True, is_urgent=False)

    saved = [call.recorder.last_checkpoint(seen.state)] if is_first else []
    assert seen.method_calls == [call.watchdog.paused(), *saved, call.world.barrier()]


def test_processes_of_different_code_train_nothing_and_say_which_nodes_run_which(tmp_path: Path) -> None:
    in_processes(SIZE, _train_by_own_code, tmp_path)

    said = {(tmp_path / str(rank)).read_text() for rank in range(SIZE)}
    assert len(said) == 1
    assert f"{Reason.MIXED_CODE} workers run different code (new on node-2, old on node-0): " in said.pop()


def _train_by_own_code(rank: int, port: int, folder: Path) -> None:
    """The first two have the same; where a process trains, it fails for want of a document."""
    code = "old" if rank < 2 else "new"
    backend.code_digest.cache_clear()
    with (
        joined(rank, SIZE, port) as world,
        patch.object(backend, "_digest_of", return_value=code),
        patch.object(socket, "gethostname", return_value=f"node-{rank}"),
    ):
        run = Run("memory://mixed", "job", 1, "")
        ending = run_training(run, world, poll_requests=RunRequests, on_hang=lambda _: None)
    (folder / str(rank)).write_text(f"{ending.reason} {ending.message}")


def test_processes_of_the_same_code_find_no_fault_with_it(tmp_path: Path) -> None:
    in_processes(SIZE, _find_fault, tmp_path)

    assert {file.read_text() for file in tmp_path.iterdir()} == {"None"}


def _find_fault(rank: int, port: int, folder: Path) -> None:
    with joined(rank, SIZE, port) as world:
        (folder / str(rank)).write_text(str(_mixed_code(world)))
