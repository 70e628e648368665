"""What training on a GPU loses to a checkpoint that is written beside it."""

import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from tests.benchmarks.gpu.effort import Effort
from tests.benchmarks.gpu.training import FFHQ, begun, spec_for
from workers.contract.keys import JobKeys
from workers.storage.local import LocalStore
from workers.training.checkpoint import save_checkpoint
from workers.training.snapshot import Snapshot
from workers.training.writer import CheckpointWriter

_PATIENCE_SECONDS = 120.0
_KEYS = JobKeys("benchmark")


@dataclass(frozen=True, slots=True)
class Stall:
    """One checkpoint. Seconds: that the loop stood still, until it was committed, and that the steps meanwhile lost."""

    num_bytes: int
    stood_still: float
    committed_after: float
    lost: float


def stalls(effort: Effort, *, repeats: int = 4) -> tuple[float, list[Stall]]:
    """Seconds of a plain step, and checkpoints of one training; the first one also finds its page-locked memory."""
    state, trainer = begun(spec_for(FFHQ, "bf16", compiled=False, effort=effort), FFHQ, effort)
    effort.warm_up(trainer.step)

    def step() -> None:
        """Waited for: else the host runs ahead, and does its steps after the writer's work."""
        trainer.step()
        effort.settle()

    plain = effort.seconds(step)
    with tempfile.TemporaryDirectory() as folder:
        store, sizes = LocalStore(Path(folder)), []

        def save(snapshot: Snapshot) -> None:
            manifest = save_checkpoint(snapshot, store, _KEYS, attempt=1, spec_sha256="0" * 64)
            sizes.append(sum(file.num_bytes for file in manifest.files))

        written: list[float] = []
        writer = CheckpointWriter(save, told=lambda _, seconds: written.append(seconds))
        found = []
        for _ in range(repeats):
            effort.settle()
            begin, steps = time.perf_counter(), 0
            writer.offer(state)
            stood_still = time.perf_counter() - begin
            while not writer.is_idle or steps < 1:
                step()
                steps += 1
            lost = time.perf_counter() - begin - steps * plain
            writer.settle(_PATIENCE_SECONDS)
            found.append(Stall(sizes[-1], stood_still, written[-1], lost))
        writer.close(0.0)
    return plain, found
