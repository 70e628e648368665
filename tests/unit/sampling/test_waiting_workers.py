"""A worker that has nothing to do, or is done, waits for another one's long piece, and is not taken for hung."""

from pathlib import Path

import torch

from tests.support.gloo import in_processes, joined
from tests.support.waiting import wait_until
from workers.sampling.pieces import Piece, PieceRunner, Tensors
from workers.storage.local import LocalStore
from workers.training.watchdog import Watchdog

SIZE = 2
PATIENCE_SECONDS = 0.2
LOOKS = 40  # of a watchdog, ten in its patience


class Counting(Watchdog):
    """Says when it has looked for several times its patience."""

    folder: Path
    looks = 0

    def is_hung(self, passed_seconds: float) -> bool:
        self.looks += 1
        if self.looks == LOOKS:
            (self.folder / "patient").touch()
        return super().is_hung(passed_seconds)


def test_workers_wait_for_one_with_a_long_piece(tmp_path: Path) -> None:
    """The first makes the only piece, and that takes until the other one's watchdog has long looked."""
    in_processes(SIZE, _work, tmp_path)

    assert {each.name for each in tmp_path.iterdir()} == {"patient", "done-0", "done-1", "store"}


def _work(rank: int, port: int, folder: Path) -> None:
    def make() -> Tensors:
        wait_until(lambda: (folder / "patient").exists(), timeout_seconds=60)
        return {"pixels": torch.ones(1)}

    watchdog = Counting(PATIENCE_SECONDS, lambda _: None, end=lambda _: (folder / f"hung-{rank}").touch())
    watchdog.folder = folder
    with joined(rank, SIZE, port) as world:
        runner = PieceRunner(LocalStore(folder / "store"), world, watchdog, lambda: False, lambda *_: None)
        if rank == 0:
            done = runner.work_through([Piece("pieces/only", 1, make)])
        else:
            with watchdog:
                done = runner.work_through([Piece("pieces/only", 1, make)])
    if done:
        (folder / f"done-{rank}").touch()
