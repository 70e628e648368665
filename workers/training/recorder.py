"""All that the first process of a run writes: metrics, pictures, checkpoints, and accounts of itself."""

from contextlib import suppress
from datetime import UTC, datetime

import structlog

from workers.contract.data import DatasetManifest
from workers.contract.records import OutcomeStatus, Progress
from workers.contract.spec import TrainSpec
from workers.contract.tracking import environment, params
from workers.logs import in_one_line
from workers.storage import ObjectStore
from workers.storage.errors import STORE_OUTAGES
from workers.tracking.events import MLFLOW_STATUS
from workers.tracking.heartbeat import first_word
from workers.tracking.journal import recorded_rows
from workers.tracking.reporter import Reporter
from workers.training.backend import code_digest, device_name, peak_memory_bytes, versions
from workers.training.checkpoint import read_manifest, save_checkpoint
from workers.training.history import UNKNOWN_CODE, Cause, History, Timekeeper
from workers.training.resume_check import ResumeCheck, rounds_coarsely
from workers.training.retention import remove_old_checkpoints
from workers.training.run import Run
from workers.training.schedule import CheckpointSchedule, in_images
from workers.training.snapshot import Snapshot
from workers.training.state import TrainState, num_parameters
from workers.training.step import learning_rate
from workers.training.telemetry import Measured
from workers.training.world import World
from workers.training.writer import CheckpointNotTakenError, CheckpointWriter

log = structlog.get_logger()

_LAST_CHECKPOINT_SECONDS = 300.0  # that the store has to take it, and as much for the one before
_URGENT_SECONDS = 20.0  # that the one before may take; a node that is drained has two minutes or less
_ABANDONED_SECONDS = 30.0


class RunRecorder:
    """Writes beside training, which waits for it only at its end."""

    def __init__(
        self,
        run: Run,
        store: ObjectStore,
        spec: TrainSpec,
        images: DatasetManifest,
        world: World,
        state: TrainState,
        history: History,
        timekeeper: Timekeeper,
        *,
        spec_sha256: str,
        start: str | None,
    ) -> None:
        """`state` is where the run starts: `start`, the folder of a checkpoint of its own or its origin's, if any."""
        seen = state.images_seen
        recorded = recorded_rows(store, run.keys, after=seen)
        timekeeper.furthest = max(timekeeper.furthest, *recorded, 0)  # rows are written sooner than progress
        other = history.other_device(device_name(world.device), after=seen) if world.device.type == "cuda" else None
        self._run, self._spec, self._store, self._device = run, spec, store, world.device
        self._spec_sha256 = spec_sha256
        self._timekeeper = timekeeper
        self._schedule = CheckpointSchedule(history)
        self._codes = tuple(dict.fromkeys([*history.own_codes, code_digest()]))
        self._waited = 0.0  # for the last snapshot
        self._is_owed = False
        is_coarse = rounds_coarsely(spec.compute)
        other_code = _other_code(store, start, history, seen) if start else None
        if other_code:
            log.warning("code.changed", before=other_code, now=code_digest(), images_seen=seen)
        check = ResumeCheck(seen, recorded, is_coarse=is_coarse, other_device=other, other_code=other_code)
        self._check = check if start and start.startswith(run.keys.checkpoints) else None
        self._reporter = Reporter(
            store,
            run.keys,
            run.attempt,
            store_url=run.store_url,
            progress=_first_progress(spec, world, timekeeper, history, self._check, state),
            params=params(spec, images, num_parameters=num_parameters(state.denoiser.network)),
            tags={**run.tags, **environment(versions(world.device)), "cdm.attempt": str(run.attempt)},
            name=run.name,
        )
        self._writer = CheckpointWriter(self._save, told=self._committed)

    @property
    def superseded(self) -> bool:
        """A later attempt has begun: this one must leave."""
        return self._writer.fenced

    @property
    def checkpoint_pays(self) -> bool:
        """One would cost less time now than training again what may be lost without it."""
        return self._writer.is_idle and self._schedule.is_due(self._timekeeper.ledger)

    @property
    def owes_checkpoint(self) -> bool:
        """An urgent one was due while the one before was being written, and can be taken now."""
        return self._is_owed and self._writer.is_idle

    def charge(self, cause: Cause) -> float:
        """The seconds since the last word of this kind went for that."""
        seconds = self._timekeeper.charge(cause)
        self._reporter.progress(ledger=self._timekeeper.ledger, ledger_at=datetime.now(UTC))
        return seconds

    def prepared(self) -> None:
        """The first step comes next."""
        self._reporter.progress(phase="training")
        self.charge("preparing")

    def metrics(self, seen: int, measured: Measured, *, rate: float) -> None:
        """Of the steps up to `seen` images."""
        self._timekeeper.charge_training(seen)
        self._reporter.progress(ledger=self._timekeeper.ledger, ledger_at=datetime.now(UTC), codes=self._codes)
        before = seen - self._spec.batch_images  # the last step
        telemetry = measured.telemetry | {"optimizer/learning_rate": learning_rate(self._spec, before)}
        memory = peak_memory_bytes(self._device)
        row = self._reporter.metrics(
            seen, losses=measured.losses, rate=rate, telemetry=telemetry, peak_memory_bytes=memory
        )
        if interval := self._schedule.interval(self._timekeeper.ledger):
            advised = in_images(interval, rate=rate, batch_images=self._spec.batch_images)
            self._reporter.progress(advised_checkpoint_images=advised)
        self._compare(seen, row)
        rounded = {name: round(row[f"loss/{name}"], 4) for name in measured.losses}
        log.info("training.progress", images_seen=seen, images_per_second=round(rate, 1), **rounded)

    def grid(self, seen: int, png: bytes) -> None:
        """The one that goes with the checkpoint just before."""
        self._reporter.grid(seen, png)
        self._schedule.paid(self._waited + self.charge("sampling"))

    def checkpoint(self, state: TrainState, *, is_urgent: bool) -> None:
        """Write one if the thread for it is free; an urgent one waits a while for that, and then is owed."""
        if is_urgent:
            log.info("checkpoint.urgent", images_seen=state.images_seen)
            with suppress(CheckpointNotTakenError):
                self._writer.settle(min(_URGENT_SECONDS, self._spec.compute.hang_seconds / 3))  # the others wait
        was_taken = self._writer.offer(state)
        self._is_owed = (self._is_owed or is_urgent) and not was_taken
        self._waited = self.charge("checkpointing")

    def last_checkpoint(self, state: TrainState) -> None:
        """Write one, and wait until it is there; a later attempt would not let it be committed.

        Raises:
            Exception: what the store has had against it for minutes.
        """
        if self.superseded:
            return
        self._reporter.progress(phase="checkpointing")
        self._writer.settle(_LAST_CHECKPOINT_SECONDS)
        self._writer.offer(state)
        self._writer.settle(_LAST_CHECKPOINT_SECONDS)
        self.charge("checkpointing")

    def close(self, status: OutcomeStatus) -> str | None:
        """Deliver what is left; return the MLflow run's id if there is one. MLflow is not told of a superseded end."""
        self._writer.close(_ABANDONED_SECONDS)
        return self._reporter.close(None if self.superseded else MLFLOW_STATUS[status])

    def _compare(self, seen: int, values: dict[str, float]) -> None:
        if self._check is None:
            return
        before = self._check.result
        self._check.compare(seen, values)
        if (resume := self._check.result) != before:
            self._reporter.progress(resume=resume)
            log.info("resume.compared", **resume.model_dump())

    def _save(self, snapshot: Snapshot) -> None:
        run = self._run
        self._reporter.record()  # who goes on from the checkpoint does not measure again what led to it
        save_checkpoint(snapshot, self._store, run.keys, attempt=run.attempt, spec_sha256=self._spec_sha256)
        try:
            remove_old_checkpoints(
                self._store, run.keys, self._spec, attempt=run.attempt, images_seen=snapshot.images_seen
            )
        except STORE_OUTAGES as error:  # what is left goes with the next one
            log.warning("checkpoint.removal_postponed", error=in_one_line(error))

    def _committed(self, seen: int, seconds: float) -> None:
        self._schedule.written(seconds)
        self._reporter.checkpoint(seen, self._run.keys.checkpoint(seen, self._run.attempt), seconds=seconds)
        log.info("checkpoint.committed", images_seen=seen, seconds=round(seconds, 2))


def _other_code(store: ObjectStore, start: str, history: History, seen: int) -> str | None:
    """The digest of what else computed the checkpoint that is started from, or went beyond it; None if nothing did."""
    own, theirs = code_digest(), read_manifest(store, start).code or UNKNOWN_CODE
    return theirs if theirs != own else history.other_code(own, after=seen)


def _first_progress(
    spec: TrainSpec,
    world: World,
    timekeeper: Timekeeper,
    history: History,
    check: ResumeCheck | None,
    state: TrainState,
) -> Progress:
    return first_word(
        spec.duration_images,
        world.size,
        images_seen=state.images_seen,
        last_checkpoint_images=state.images_seen if check else None,
        device=device_name(world.device),
        versions=versions(world.device),
        codes=history.own_codes,
        num_parameters=num_parameters(state.denoiser.network),
        ledger=timekeeper.ledger,
        ledger_at=datetime.now(UTC),
        resume=check.result if check else None,
        restarts=history.restarts,
    )
