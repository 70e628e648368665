"""Checkpoints written beside training, which waits only for a copy of its state to host memory."""

import threading
import time
from collections.abc import Callable

import structlog

from workers.logs import in_one_line
from workers.storage.errors import STORE_OUTAGES, refusal
from workers.training.checkpoint import FencedError
from workers.training.snapshot import Snapshot
from workers.training.state import TrainState

log = structlog.get_logger()

_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 1.0, 30.0


class CheckpointNotTakenError(Exception):
    """The object store has refused a checkpoint, or not answered, for too long."""


class CheckpointWriter:
    """Writes one snapshot at a time on its own thread, again and again while the object store does not take it.

    What comes due meanwhile is left out, so memory is bounded by one snapshot, and an object store that is away costs
    work only if training dies before it is back.
    """

    def __init__(self, save: Callable[[Snapshot], None], *, told: Callable[[int, float], None]) -> None:
        """`save` commits a snapshot; then `told` learns its images and how many seconds that took."""
        self._save = save
        self._told = told
        self._snapshot = Snapshot()
        self._failure: Exception | None = None
        self._is_idle, self._is_due, self._is_over = threading.Event(), threading.Event(), threading.Event()
        self._is_idle.set()
        self.fenced = False
        threading.Thread(target=self._run, name="checkpoints", daemon=True).start()

    @property
    def is_idle(self) -> bool:
        """It would take a snapshot now."""
        return self._is_idle.is_set()

    def offer(self, state: TrainState) -> bool:
        """Take a snapshot to be written, unless the one before is still being written; whether it was taken.

        Raises:
            Exception: the one before could not be written, and not because of the store, or not be told of.
        """
        if not self.is_idle:
            log.warning("checkpoint.skipped", images_seen=state.images_seen, error=self._why("still busy"))
            return False
        if self._failure:
            raise self._failure
        self._snapshot.take(state)
        self._is_idle.clear()
        self._is_due.set()
        return True

    def settle(self, patience_seconds: float) -> None:
        """Wait until what was offered is committed.

        Raises:
            CheckpointNotTakenError: it is not, after so long.
            Exception: it cannot be written, and not because of the store, or not be told of.
        """
        if not self._is_idle.wait(patience_seconds):
            what = f"the checkpoint at {self._snapshot.images_seen} images within {patience_seconds:g} s"
            raise CheckpointNotTakenError(f"the store has not taken {what}: {self._why('no answer')}")
        if self._failure:
            raise self._failure

    def close(self, patience_seconds: float) -> None:
        """Let what is under way be written, for at most so long; nothing is tried again after that."""
        if not self._is_idle.wait(patience_seconds):
            log.warning("checkpoint.abandoned", images_seen=self._snapshot.images_seen, error=self._why("no answer"))
        self._is_over.set()
        self._is_due.set()

    def _why(self, otherwise: str) -> str:
        """What the store has had against the snapshot, if it has said anything."""
        if self._failure is None:
            return otherwise
        return refusal(self._failure) or in_one_line(self._failure)

    def _run(self) -> None:
        while self._is_due.wait() and not self._is_over.is_set():
            self._is_due.clear()
            try:
                self._failure = self._attempted()
            except Exception as error:  # noqa: BLE001 - training learns of it at its next checkpoint
                self._failure = error
            self._is_idle.set()

    def _attempted(self) -> Exception | None:
        """Try until it is written, a later attempt has begun, or nobody waits for it any more.

        Raises:
            Exception: it cannot be written, and not because of the store, or not be told of.
        """
        pause = _FIRST_PAUSE_SECONDS
        while True:
            begun = time.monotonic()
            try:
                self._save(self._snapshot)
            except FencedError as error:
                log.warning("attempt.superseded", error=str(error))
                self.fenced = True
                return None
            except STORE_OUTAGES as error:
                self._failure = error
                log.warning("checkpoint.postponed", error=in_one_line(error), retry_in_seconds=pause)
                if self._is_over.wait(pause):
                    return error
                pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)
            else:
                self._told(self._snapshot.images_seen, time.monotonic() - begun)
                return None
