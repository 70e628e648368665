"""The training loop: a run on one process among equals. Restore, take steps, report, checkpoint, leave when asked."""

import os
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path

import structlog

from workers.contract.records import Reason
from workers.contract.spec import TrainSpec
from workers.data import ImageSet
from workers.storage import open_store
from workers.training.agreement import Agreement
from workers.training.backend import code_digest, configure_backend
from workers.training.history import History, Timekeeper
from workers.training.recorder import RunRecorder
from workers.training.run import Ending, Run, RunRequests
from workers.training.samples import draw_grid
from workers.training.start import restore_start, share_state
from workers.training.state import TrainState, new_state
from workers.training.step import Trainer
from workers.training.telemetry import Window
from workers.training.watchdog import Watchdog
from workers.training.world import World

log = structlog.get_logger()


def run_training(
    run: Run, world: World, *, poll_requests: Callable[[], RunRequests], on_hang: Callable[[str], object]
) -> Ending:
    """Train `run` to its end, from its newest checkpoint if there is one. Every process of `world` calls this.

    Without one, a fork starts from its origin, and any other job from its initial weights.

    `poll_requests` is asked every few seconds, at the same step in every process. Once any is to stop, all leave after
    a last checkpoint; once any wants a checkpoint, it is written at once.
    `on_hang` gets where the threads stand if no step comes for `compute.hang_seconds`, or no first one for
    `compute.start_seconds`; then this process is ended.
    """
    store = open_store(run.store_url)
    history = History.read(store, run.keys, run.attempt)
    if mixed := _mixed_code(world):
        return Ending(history.furthest, reason=Reason.MIXED_CODE, message=mixed)
    timekeeper = Timekeeper(history)
    document = store.get(run.keys.spec)
    spec = TrainSpec.model_validate_json(document)
    configure_backend(spec.compute)
    images = ImageSet.open(run.dataset(store).digest, store=store, cache=Path(run.cache_folder))
    state = new_state(spec, images.manifest, world.device)
    start = restore_start(state, spec, store, run.keys, world)
    where = {"device": str(world.device), "rank": world.rank, "of": world.size, "worker_pid": os.getpid()}
    log.info("worker.ready", images_seen=state.images_seen, **where)
    recorder = (
        RunRecorder(
            run,
            store,
            spec,
            images.manifest,
            world,
            state,
            history,
            timekeeper,
            spec_sha256=sha256(document).hexdigest(),
            start=start,
        )
        if world.is_first
        else None
    )
    try:
        world.barrier()  # one may read for hours what others have on their disks; nobody's first step is late by that
        compute = spec.compute
        with Watchdog(compute.hang_seconds, on_hang, first_seconds=compute.first_step_seconds) as watchdog:
            share_state(state, world)
            ending = _Loop(world, spec, state, images, recorder, watchdog).run(poll_requests)
    except BaseException:
        if recorder:
            recorder.close("failed")
        raise
    return replace(ending, mlflow_run_id=recorder.close(ending.status)) if recorder else ending


def _mixed_code(world: World) -> str | None:
    """What to say if processes of this world run different code; they would train one network by several rules."""
    said = world.all_gather_object((code_digest(), socket.gethostname()))
    hosts = dict(reversed(said))  # the first that runs each
    if len(hosts) == 1:
        return None
    found = ", ".join(f"{code} on {host}" for code, host in sorted(hosts.items()))
    reason = "the images of these nodes differ, or a file was changed while workers started"
    return f"workers run different code ({found}): {reason}; give all nodes one image, then `cdm retry` the job"


@dataclass(frozen=True, slots=True)
class _Loop:
    """What is at hand between the steps of one run. Only the first process has a recorder."""

    world: World
    spec: TrainSpec
    state: TrainState
    images: ImageSet
    recorder: RunRecorder | None
    watchdog: Watchdog

    def run(self, poll_requests: Callable[[], RunRequests]) -> Ending:
        """Go through the steps; look up from them whenever something is due."""
        window, agreement = Window(self.world, self.spec.objective.consistency), Agreement(self.world)
        trainer = Trainer(self.state, self.images, self.spec, self.world)
        if self.recorder:
            self.recorder.prepared()
        since, counted = time.monotonic(), self.state.images_seen
        for step in trainer.steps():
            window.add(step.terms, step.gradient_norm)
            seen = self.watchdog.images_seen = step.images_seen
            done = seen >= self.spec.duration_images
            requests = agreement.reached(lambda: poll_requests() | self._own_requests)
            stop = requests.stop and not done
            grid_due = done or self._checkpoint_due(seen)
            checkpoint_due = grid_due or stop or requests.checkpoint
            if not (checkpoint_due or self._passed(seen, self.spec.cadence.log_images)):
                continue
            measured = window.close()
            if measured.trouble:
                return Ending(seen, reason=Reason.NON_FINITE_LOSS, message=f"before {seen} images {measured.trouble}")
            if self.recorder:
                rate = (seen - counted) / (time.monotonic() - since)
                self.recorder.metrics(seen, measured, rate=rate)
            if checkpoint_due:
                self._checkpoint(is_last=done or stop, is_urgent=requests.checkpoint)
            if stop:
                return self._ending(stopped=True, message=f"asked to stop; checkpoint at {seen} images")
            if grid_due:
                self._draw_grid()
            since, counted = time.monotonic(), seen
        return self._ending(stopped=False, message="")

    @property
    def _own_requests(self) -> RunRequests:
        owes_checkpoint = self.recorder is not None and self.recorder.owes_checkpoint
        return RunRequests(stop=self._superseded, checkpoint=owes_checkpoint)

    @property
    def _superseded(self) -> bool:
        return self.recorder is not None and self.recorder.superseded

    def _ending(self, *, stopped: bool, message: str) -> Ending:
        if self._superseded:
            return Ending(self.state.images_seen, stopped=True, message="a later attempt has begun")
        return Ending(self.state.images_seen, stopped=stopped, message=message)

    def _checkpoint_due(self, seen: int) -> bool:
        """The same in every process.

        By `auto` only where a row of metrics ends anyway: rows of a repeated run are then of the same images.
        """
        cadence = self.spec.cadence
        if cadence.checkpoint_images != "auto":
            return self._passed(seen, cadence.checkpoint_images)
        if not self._passed(seen, cadence.log_images):
            return False
        if cadence.keep_every_images and self._passed(seen, cadence.keep_every_images):
            return True
        return self.world.any(self.recorder is not None and self.recorder.checkpoint_pays)

    def _passed(self, seen: int, every: int) -> bool:
        return seen // every > (seen - self.spec.batch_images) // every

    def _checkpoint(self, *, is_last: bool, is_urgent: bool) -> None:
        if is_last:
            with self.watchdog.paused():
                if self.recorder:
                    self.recorder.last_checkpoint(self.state)
                self.world.barrier()  # the store may take longer than a collective of what follows may
        elif self.recorder:
            self.recorder.checkpoint(self.state, is_urgent=is_urgent)

    def _draw_grid(self) -> None:
        png = draw_grid(self.state.ema, self.spec, self.images.manifest, self.world, on_pass=self.watchdog.beat)
        if self.recorder:
            self.recorder.grid(self.state.images_seen, png)
