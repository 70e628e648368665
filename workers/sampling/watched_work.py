"""A worker's time at a job that is no training: watched over, and told of."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

from workers.contract.compute import Workers
from workers.contract.keys import RESULT
from workers.contract.records import Phase
from workers.sampling.pieces import PieceRunner, let_go
from workers.sampling.source import resolved_source
from workers.storage import ObjectStore
from workers.storage.job_folder import newest_attempt
from workers.tracking.heartbeat import Heartbeat, first_word
from workers.training.backend import configure_backend, device_name, peak_memory_bytes
from workers.training.history import History
from workers.training.run import Run, RunRequests
from workers.training.watchdog import Watchdog
from workers.training.world import World


@contextmanager
def watched_work(
    run: Run,
    world: World,
    store: ObjectStore,
    compute: Workers,
    *,
    phase: Phase,
    poll_requests: Callable[[], RunRequests],
    on_hang: Callable[[str], object],
) -> Iterator[PieceRunner]:
    """Until the block ends, a watchdog looks after this process, and the first one's progress is told.

    It leaves when asked to, and when a later attempt has begun.
    """
    configure_backend(compute)

    def wants_to_leave() -> bool:
        return poll_requests().stop or (world.is_first and newest_attempt(store, run.keys) > run.attempt)

    reporter = _ProgressReporter(store, run, world, phase) if world.is_first else None
    try:
        with Watchdog(compute.hang_seconds, on_hang) as watchdog:
            yield PieceRunner(store, world, watchdog, wants_to_leave, reporter.report if reporter else _ignore_progress)
    finally:
        if reporter:
            reporter.close()


def is_done(run: Run, world: World, store: ObjectStore) -> bool:
    """Whether an earlier attempt has written the result; then what it may have left of its pieces goes."""
    done = world.broadcast_object(world.is_first and run.keys.results + RESULT in store.list(run.keys.results))
    if done and world.is_first:
        let_go(store, run.keys, resolved_source(store, run.keys))
    return done


class _ProgressReporter:
    """Says in the job's progress how many images are done, how fast, and when all will be."""

    def __init__(self, store: ObjectStore, run: Run, world: World, phase: Phase) -> None:
        self._device, self._phase = world.device, phase
        restarts = History.read(store, run.keys, run.attempt).restarts
        first = first_word(0, world.size, device=device_name(world.device), restarts=restarts)
        self._heartbeat = Heartbeat(store, run.keys.attempt(run.attempt).progress, first)
        self._begin: tuple[float, int, float] | None = None

    def report(self, done: int, total: int, share: float) -> None:
        now = time.monotonic()
        if self._begin is None or done == 0:  # the clock runs from when something is done
            self._begin = (now, done, share)
        since, before, share_before = self._begin
        left = (now - since) * (1 - share) / (share - share_before) if share > share_before else None
        self._heartbeat.update(
            phase=self._phase,
            total_images=total,
            images_seen=done,
            last_checkpoint_images=done,
            images_per_second=(done - before) / (now - since) if done > before else 0.0,
            expected_end=datetime.now(UTC) + timedelta(seconds=left) if left is not None else None,
            peak_memory_bytes=peak_memory_bytes(self._device),
        )

    def close(self) -> None:
        self._heartbeat.close()


def _ignore_progress(_done: int, _total: int, _share: float) -> None: ...
