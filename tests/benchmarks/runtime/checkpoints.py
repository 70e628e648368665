"""What training loses to a checkpoint that is written beside it."""

import time
from contextlib import suppress
from statistics import median

from tests.benchmarks.runtime.figures import Section, at_most, interleaved, percent, spread
from tests.benchmarks.runtime.jobs import place
from tests.benchmarks.runtime.training import Spent, Training, spec_of
from workers.contract.keys import JobKeys
from workers.contract.records import CheckpointManifest
from workers.storage import ObjectStore, open_store
from workers.training.checkpoint import save_checkpoint
from workers.training.snapshot import Snapshot
from workers.training.writer import CheckpointWriter

_INTERVAL_SECONDS = 60.0
_WINDOW_SECONDS = 8.0
_PATIENCE_SECONDS = 120.0
_LIMIT = 0.01
_BATCH = 4
_CHANNELS = 104  # with which network, average and Adam's two moments come to about 200 MB

_HOW = """\
A network of 13 million parameters with its average and Adam's moments is trained in this process by one thread
({batch} images a step) and committed to a real S3 server. The same number of steps, about {window:g} s of them, runs
without a checkpoint and with one that begins after the first step and is committed before the last. Lost is the
difference: the stall of the loop, and the slowdown of the steps while a thread hashes and uploads. The share assumes
one such loss every {interval:g} s; intervals of that length were not run. CPU is the additional CPU time of the steps
with a checkpoint; a server on another machine takes none of it."""


class _Committed:
    """One training with its writer; what the last checkpoint took."""

    def __init__(self, store: ObjectStore, training: Training) -> None:
        self._store, self._training, self._keys = store, training, JobKeys("benchmark")
        self._writer = CheckpointWriter(self._save, told=self._told)
        self.stalls: list[float] = []
        self.written: list[float] = []
        self.num_bytes = 0

    def spent(self, num_steps: int) -> Spent:
        """On so many steps with a checkpoint among them."""
        spent = self._training.spent(num_steps, after_each=self._offer_after_the_first)
        self._writer.settle(_PATIENCE_SECONDS)
        if self.written[-1] > spent.wall:
            raise RuntimeError(f"the checkpoint took {self.written[-1]:.1f} s, the steps beside it only {spent}")
        self._remove()
        return spent

    def close(self) -> None:
        self._writer.close(0.0)

    def _offer_after_the_first(self, step: int) -> None:
        if step > 0:
            return
        begin = time.perf_counter()
        self._writer.offer(self._training.state)
        self.stalls.append(time.perf_counter() - begin)

    def _save(self, snapshot: Snapshot) -> None:
        manifest = save_checkpoint(snapshot, self._store, self._keys, attempt=1, spec_sha256="0" * 64)
        self.num_bytes = _size(manifest)

    def _told(self, _images_seen: int, seconds: float) -> None:
        self.written.append(seconds)

    def _remove(self) -> None:
        for key in self._store.list(self._keys.checkpoints):
            with suppress(FileNotFoundError):
                self._store.delete(key)


def checkpoints(repeats: int) -> Section:
    training = Training(spec_of(batch_images=_BATCH, channels=_CHANNELS))
    with place() as where:
        committed = _Committed(open_store(where.url), training)
        num_steps = training.steps_in(_WINDOW_SECONDS)
        committed.spent(num_steps)  # the first one also finds its memory
        committed.stalls.clear()
        committed.written.clear()
        variants = {"without": lambda: training.spent(num_steps), "with": lambda: committed.spent(num_steps)}
        found = interleaved(variants, repeats=repeats)
        committed.close()
    lost = [ours - plain for ours, plain in zip(found["with"], found["without"], strict=True)]
    shares = [one.wall / _INTERVAL_SECONDS for one in lost]
    rows = [
        ["state", f"{committed.num_bytes / 1e6:.0f} MB"],
        ["a step", f"{1e3 * median(one.wall for one in found['without']) / num_steps:.0f} ms"],
        ["stall of the loop", f"{spread([1e3 * stall for stall in committed.stalls], '.0f')} ms"],
        ["committed after", f"{spread(committed.written)} s"],
        ["CPU of the process", f"{spread([one.own_cpu for one in lost])} s"],
        ["CPU of the server", f"{spread([one.servers_cpu for one in lost])} s"],
        ["lost", f"{spread([one.wall for one in lost])} s"],
        [f"of {_INTERVAL_SECONDS:g} s", percent(shares)],
    ]
    aim = at_most("less than 1 % of the time is lost", shares, _LIMIT)
    how = _HOW.format(batch=_BATCH, window=_WINDOW_SECONDS, interval=_INTERVAL_SECONDS)
    return Section("Checkpoints", how, repeats, ["", "median [least, greatest]"], rows, [aim])


def _size(manifest: CheckpointManifest) -> int:
    return sum(file.num_bytes for file in manifest.files)
