"""`progress.json`: the sign of life of an attempt."""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

import structlog

from workers.contract.records import Behind, Ledger, Phase, Progress, Resume
from workers.storage import ObjectStore

log = structlog.get_logger()
_EVERY_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Status:
    """What the training thread last knew."""

    total_images: int
    num_workers: int
    phase: Phase = "preparing"
    images_seen: int = 0
    images_per_second: float = 0.0
    expected_end: datetime | None = None  # None: as the speed tells, which images of equal cost are done at
    losses: dict[str, float] = field(default_factory=dict)
    last_checkpoint_images: int | None = None
    mlflow_run_id: str | None = None
    device: str | None = None
    peak_memory_bytes: int | None = None
    ledger: Ledger = field(default_factory=Ledger)
    ledger_at: datetime | None = None
    resume: Resume | None = None
    tracking_behind: dict[str, Behind] = field(default_factory=dict)
    restarts: int = 0
    advised_checkpoint_images: int | None = None


class Heartbeat:
    """Writes the current status every two seconds on its own thread, and at once when another phase begins.

    A store that fails is tried again at the next beat.

    `behind` is asked each time who does not get what there is to tell.
    """

    def __init__(
        self, store: ObjectStore, key: str, status: Status, *, behind: Callable[[], dict[str, Behind]] = dict
    ) -> None:
        self._store = store
        self._key = key
        self._status = status
        self._behind = behind
        self._changing = threading.Lock()
        self._at_once = threading.Event()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)
        self._thread.start()

    @property
    def status(self) -> Status:
        return self._status

    def update(self, **changes: object) -> None:
        """Change some fields of the status; they are written with the next beat, which another phase brings at once."""
        with self._changing:
            before = self._status.phase
            self._status = replace(self._status, **changes)  # type: ignore[arg-type] # the fields of Status
        if self._status.phase != before:  # a short one would be over before anybody heard of it
            self._at_once.set()

    def close(self) -> None:
        """Write the last status and stop."""
        self._closing.set()
        self._at_once.set()
        self._thread.join(timeout=10)

    def _run(self) -> None:
        while True:
            self._at_once.clear()
            last = self._closing.is_set()
            self.update(tracking_behind=self._behind())
            try:
                self._store.put(self._key, progress_of(self._status).model_dump_json().encode())
            except Exception as error:  # noqa: BLE001 - a store outage must not end training
                log.warning("heartbeat.failed", error=f"{type(error).__name__}: {error}"[:300])
            if last:
                return
            self._at_once.wait(_EVERY_SECONDS)


def progress_of(status: Status) -> Progress:
    """The record of a status, now."""
    return Progress(
        phase=status.phase,
        images_seen=status.images_seen,
        total_images=status.total_images,
        images_per_second=status.images_per_second,
        eta_seconds=_eta_seconds(status),
        losses=status.losses,
        last_checkpoint_images=status.last_checkpoint_images,
        num_workers=status.num_workers,
        mlflow_run_id=status.mlflow_run_id,
        updated_at=datetime.now(UTC),
        device=status.device,
        peak_memory_bytes=status.peak_memory_bytes,
        ledger=status.ledger,
        ledger_at=status.ledger_at,
        resume=status.resume,
        tracking_behind=status.tracking_behind,
        restarts=status.restarts,
        advised_checkpoint_images=status.advised_checkpoint_images,
    )


def _eta_seconds(status: Status) -> float | None:
    if status.expected_end:
        return max(0.0, (status.expected_end - datetime.now(UTC)).total_seconds())
    remaining = max(0, status.total_images - status.images_seen)
    return remaining / status.images_per_second if status.images_per_second else None
