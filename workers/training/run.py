"""A whole training run on one process among equals: restore, train, report, checkpoint, leave when asked."""

import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import structlog

from workers.contract.document import flattened
from workers.contract.keys import JobKeys
from workers.contract.records import Reason
from workers.contract.spec import TrainSpec
from workers.data import ImageSet
from workers.storage import ObjectStore, open_store
from workers.tracking.heartbeat import Status
from workers.tracking.reporter import Reporter
from workers.training.agreement import StopAgreement
from workers.training.backend import configure_backend
from workers.training.checkpoint import FencedError, save_checkpoint
from workers.training.hardware import device_name, peak_memory_bytes
from workers.training.loop import learning_rate, train
from workers.training.samples import draw_grid
from workers.training.start import restore_start
from workers.training.state import TrainState, new_state
from workers.training.telemetry import Measured, Window
from workers.training.weights import load_initial_weights
from workers.training.world import World

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Run:
    """What is run: an attempt at a job, on an imported image set. Small and picklable: it travels to every worker."""

    store_url: str
    job_id: str
    attempt: int
    dataset_digest: str
    cache_folder: str

    @property
    def keys(self) -> JobKeys:
        return JobKeys(self.job_id)


@dataclass(frozen=True, slots=True)
class Ending:
    """How a run ended: with all images seen, asked to leave (`stopped`), or given up for a `reason`."""

    images_seen: int
    stopped: bool = False
    reason: Reason | None = None
    message: str = ""
    mlflow_run_id: str | None = None


def run_training(run: Run, world: World, *, stop_requested: Callable[[], bool]) -> Ending:
    """Train `run` to its end, from its newest checkpoint if there is one. Every process of `world` calls this.

    Without one, a fork starts from its origin, and any other job from its initial weights.

    `stop_requested` is asked every few seconds; once any process has heard yes, all leave after a last checkpoint.
    """
    store = open_store(run.store_url)
    spec_json = store.get(run.keys.spec)
    spec = TrainSpec.model_validate_json(spec_json)
    configure_backend(spec.compute)
    images = ImageSet.open(run.dataset_digest, store=store, cache=Path(run.cache_folder))
    state = new_state(spec, images.manifest, world.device)
    restored = restore_start(state, store, run.keys, world)
    if restored is None:
        load_initial_weights(state, spec)
    has_checkpoint = restored is not None and restored.startswith(run.keys.checkpoints)
    log.info("worker.ready", rank=world.rank, of=world.size, device=str(world.device), images_seen=state.images_seen)
    reporter = _open_reporter(run, store, spec, world, state, has_checkpoint=has_checkpoint)
    session = _Session(run, world, store, spec, hashlib.sha256(spec_json).hexdigest(), state, images, reporter)
    try:
        ending = session.train(stop_requested)
    except BaseException:
        if reporter:
            reporter.close("FAILED")
        raise
    if reporter is None:
        return ending
    return replace(ending, mlflow_run_id=reporter.close(None if session.superseded else _mlflow_status(ending)))


def _mlflow_status(ending: Ending) -> Literal["FINISHED", "FAILED", "KILLED"]:
    if ending.stopped:
        return "KILLED"
    return "FAILED" if ending.reason else "FINISHED"


@dataclass(slots=True)
class _Session:
    """What is at hand between the steps of one run. Only the first process has a reporter, and writes."""

    run: Run
    world: World
    store: ObjectStore
    spec: TrainSpec
    spec_sha256: str
    state: TrainState
    images: ImageSet
    reporter: Reporter | None
    superseded: bool = False

    def train(self, stop_requested: Callable[[], bool]) -> Ending:
        """Go through the steps; look up from them whenever something is due."""
        cadence = self.spec.cadence
        window, agreement = Window(self.world, self.spec.objective.consistency), StopAgreement(self.world)
        since, counted = time.monotonic(), self.state.images_seen
        for step in train(self.state, self.images, self.spec, self.world):
            window.add(step.terms, step.gradient_norm)
            seen = step.images_seen
            done = seen >= self.spec.duration_images
            stop = agreement.reached(lambda: stop_requested() or self.superseded) and not done
            checkpoint_due = done or stop or self._passed(seen, cadence.checkpoint_images)
            if not (checkpoint_due or self._passed(seen, cadence.log_images)):
                continue
            measured = window.close()
            if measured.trouble:
                return Ending(seen, reason=Reason.NON_FINITE_LOSS, message=f"before {seen} images {measured.trouble}")
            self._report(measured, rate=(seen - counted) / (time.monotonic() - since))
            if checkpoint_due:
                self._checkpoint()
            if stop:
                return self._ending(stopped=True, message=f"asked to stop; checkpoint at {seen} images")
            if checkpoint_due:
                self._draw_grid()
            since, counted = time.monotonic(), seen
        return self._ending(stopped=False, message="")

    def _ending(self, *, stopped: bool, message: str) -> Ending:
        if self.superseded:
            return Ending(self.state.images_seen, stopped=True, message="a later attempt has begun")
        return Ending(self.state.images_seen, stopped=stopped, message=message)

    def _passed(self, seen: int, every: int) -> bool:
        return seen // every > (seen - self.spec.batch_images) // every

    def _report(self, measured: Measured, *, rate: float) -> None:
        if self.reporter:
            seen = self.state.images_seen
            telemetry = measured.telemetry | {"optimizer/learning_rate": learning_rate(self.spec, seen)}
            self.reporter.metrics(
                seen,
                losses=measured.losses,
                rate=rate,
                telemetry=telemetry,
                peak_memory_bytes=peak_memory_bytes(self.world.device),
            )
            rounded = {name: round(value, 4) for name, value in measured.losses.items()}
            log.info("training.progress", images_seen=seen, images_per_second=round(rate, 1), **rounded)

    def _draw_grid(self) -> None:
        png = draw_grid(self.state.ema, self.spec, self.images.manifest, self.world)
        if self.reporter:
            self.reporter.grid(self.state.images_seen, png)

    def _checkpoint(self) -> None:
        if not self.reporter:
            return
        self.reporter.phase("checkpointing")
        begun = time.monotonic()
        keys, attempt = self.run.keys, self.run.attempt
        try:
            save_checkpoint(self.state, self.store, keys, attempt=attempt, spec_sha256=self.spec_sha256)
        except FencedError as error:  # not raised: the others are at their next step, and leave by agreement
            log.warning("attempt.superseded", error=str(error))
            self.superseded = True
            return
        seen, seconds = self.state.images_seen, time.monotonic() - begun
        self.reporter.checkpoint(seen, keys.checkpoint(seen, attempt), seconds=seconds)
        log.info("checkpoint.committed", images_seen=seen, seconds=round(seconds, 2))


def _open_reporter(
    run: Run, store: ObjectStore, spec: TrainSpec, world: World, state: TrainState, *, has_checkpoint: bool
) -> Reporter | None:
    if not world.is_first:
        return None
    seen = state.images_seen
    status = Status(
        spec.duration_images,
        world.size,
        images_seen=seen,
        last_checkpoint_images=seen if has_checkpoint else None,
        device=device_name(world.device),
    )
    params = flattened(spec) | {"dataset.digest": run.dataset_digest, "sigma_data": f"{state.denoiser.sigma_data:.6g}"}
    tags = {"cdm.attempt": str(run.attempt)}
    return Reporter(store, run.keys, run.attempt, store_url=run.store_url, status=status, params=params, tags=tags)
