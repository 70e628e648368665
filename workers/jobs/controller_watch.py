"""What Ray Train's controller neither tells nor asks: that it waits for room or resizes soon; whether to leave."""

import time
from collections.abc import Callable
from datetime import UTC, datetime

import ray
import structlog
from ray.train.v2._internal.execution.callback import ControllerCallback
from ray.train.v2._internal.execution.controller.state import (
    InitializingState,
    ReschedulingState,
    ResizingState,
    RestartingState,
    RunningState,
    TrainControllerState,
)

from workers.contract.compute import Workers
from workers.contract.jobs import AnySpec
from workers.contract.keys import JobKeys
from workers.contract.records import Progress
from workers.jobs.failures import LeftWaitingError
from workers.jobs.signals import Signals
from workers.logs import in_one_line
from workers.storage import ObjectStore, open_store
from workers.storage.job_folder import committed_checkpoints
from workers.tracking.heartbeat import first_word
from workers.training.history import last_word, with_silence
from workers.training.run import Run

log = structlog.get_logger()

_PATIENCE_SECONDS = 30.0  # that Ray may take to place workers before anybody is told
_TELL_EVERY_SECONDS = 10.0
_SAVING_SECONDS = 300.0  # as long as the store has for a last checkpoint
_POLL_SECONDS = 0.5


class ControllerWatch(ControllerCallback):  # type: ignore[misc] # untyped in Ray
    """Lives in Ray Train's controller, in a process of the driver's node.

    Without room for its workers Ray Train tries again for ever, in silence: the job's progress says so, and why, and
    it ends once the job is to leave, which Ray Train leaves to the workers.
    A healthy group that shall become larger or smaller is ended without being asked: here it is, for a checkpoint.
    `clock` counts seconds, and `sleep` lets so many go by.
    """

    def __init__(
        self,
        run: Run,
        spec: AnySpec,
        signals: Signals,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._run, self._spec, self._signals = run, spec, signals
        self._clock, self._sleep = clock, sleep
        self._without_workers_since: float | None = None
        self._told_at = 0.0

    def after_controller_state_update(
        self,
        previous_state: TrainControllerState,
        current_state: TrainControllerState,
    ) -> None:
        """Ray calls this after each look at its workers. An error here ends the whole attempt, whatever it is.

        Raises:
            LeftWaitingError: the job is asked to leave, and it has no workers that could.
        """
        try:
            match current_state:
                case ResizingState():
                    self._save()
                case RunningState():
                    self._without_workers_since = None
                case ReschedulingState():  # it has tried for as long as a group has to start
                    self._leave_if_asked()
                    self._tell()
                case InitializingState() | RestartingState():
                    if isinstance(previous_state, type(current_state)):  # no room; the next look comes at once
                        self._sleep(_POLL_SECONDS)  # or a core of the head does nothing but look
                        self._leave_if_asked()
                    if self._has_waited():
                        self._tell()
                case _:
                    pass
        except LeftWaitingError:
            raise
        except Exception as error:  # noqa: BLE001 - of the store or of Ray: a courtesy must not end a training
            log.warning("controller_watch.failed", error=in_one_line(error))

    def _leave_if_asked(self) -> None:
        if self._signals.read().stop:
            log.info("workers.given_up")
            raise LeftWaitingError

    def _has_waited(self) -> bool:
        now = self._clock()
        self._without_workers_since = self._without_workers_since or now
        is_early = now - self._told_at < _TELL_EVERY_SECONDS
        return now - self._without_workers_since > _PATIENCE_SECONDS and not is_early

    def _tell(self) -> None:
        self._told_at = self._clock()
        if (missing := _missing(self._spec.compute)) is None:
            return
        run, store = self._run, open_store(self._run.store_url)
        last = last_word(store, run.keys, run.attempt) or first_word(self._spec.total_images, num_workers=0)
        progress = waiting(last, missing)
        store.put(run.keys.attempt(run.attempt).progress, progress.model_dump_json().encode())
        log.warning("workers.waiting", waiting_for=progress.waiting_for)

    def _save(self) -> None:
        """Wait for a checkpoint of later than the workers' last word: what is being written by now is older."""
        store, keys = open_store(self._run.store_url), self._run.keys
        last = last_word(store, keys, self._run.attempt)
        seen = max(last.images_seen if last else 0, _newest_checkpoint(store, keys))
        due, deadline = min(seen + 1, self._spec.total_images), self._clock() + _SAVING_SECONDS
        self._signals.ask_for_checkpoint()
        while _newest_checkpoint(store, keys) < due:
            if self._clock() > deadline:
                log.warning("resize.not_saved", waited_seconds=_SAVING_SECONDS)
                return
            self._sleep(_POLL_SECONDS)
        log.info("resize.saved")


def waiting(last: Progress, waiting_for: str) -> Progress:
    """The last word of workers that are gone, with the time that has gone by since."""
    now, accounted = datetime.now(UTC), with_silence(last)
    changes = {"phase": "waiting", "waiting_for": waiting_for, "images_per_second": 0.0, "eta_seconds": None}
    return last.model_copy(update={**changes, "ledger": accounted, "ledger_at": now, "updated_at": now})


def _newest_checkpoint(store: ObjectStore, keys: JobKeys) -> int:
    """After how many images it was taken; 0 if there is none."""
    folders = committed_checkpoints(store, keys)
    return keys.of_checkpoint(folders[-1])[0] if folders else 0


def _missing(compute: Workers) -> str | None:
    """In words; None if there is room by now."""
    kind, least = compute.accelerator.upper(), compute.least_workers
    there, free = ray.cluster_resources().get(kind, 0), ray.available_resources().get(kind, 0)
    if free >= least:
        return None
    return f"room for {least} {compute.accelerator} workers: all nodes together have {there:g} {kind}s, {free:g} free"
