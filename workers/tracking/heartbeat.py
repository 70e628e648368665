"""`progress.json`: the sign of life of an attempt."""

import threading
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import structlog

from workers.contract.records import DeliveryDelay, Progress
from workers.logs import in_one_line
from workers.storage import ObjectStore

log = structlog.get_logger()
_EVERY_SECONDS = 2.0


def first_word(total_images: int, num_workers: int, **known: Any) -> Progress:
    """What there is to say before anything is done, beside other fields of the record that are `known` by then."""
    nothing: dict[str, Any] = {
        "phase": "preparing",
        "images_seen": 0,
        "images_per_second": 0.0,
        "eta_seconds": None,
        "losses": {},
        "last_checkpoint_images": None,
        "mlflow_run_id": None,
        "updated_at": datetime.now(UTC),
    }
    return Progress(total_images=total_images, num_workers=num_workers, **nothing | known)


class Heartbeat:
    """Writes the current progress every two seconds on its own thread, and at once when another phase begins.

    A store that fails is tried again at the next beat.

    `behind` is asked each time who does not get what there is to tell.
    """

    def __init__(
        self, store: ObjectStore, key: str, progress: Progress, *, behind: Callable[[], dict[str, DeliveryDelay]] = dict
    ) -> None:
        self._store = store
        self._key = key
        self._progress = progress
        self._expected_end: datetime | None = None
        self._behind = behind
        self._changing = threading.Lock()
        self._at_once = threading.Event()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)
        self._thread.start()

    @property
    def progress(self) -> Progress:
        return self._progress

    def update(self, *, expected_end: datetime | None = None, **changes: object) -> None:
        """Change some fields; they are written with the next beat, which another phase brings at once.

        Without `expected_end`, the time left is as the speed tells, which images of equal cost are done at.
        """
        with self._changing:
            before, self._expected_end = self._progress.phase, expected_end
            self._progress = self._progress.model_copy(update=changes)
        if self._progress.phase != before:  # a short one would be over before anybody heard of it
            self._at_once.set()

    def close(self) -> None:
        """Write the last word and stop."""
        self._closing.set()
        self._at_once.set()
        self._thread.join(timeout=10)

    def _run(self) -> None:
        while True:
            self._at_once.clear()
            last = self._closing.is_set()
            try:
                self._store.put(self._key, self._current().model_dump_json().encode())
            except Exception as error:  # noqa: BLE001 - a store outage must not end training
                log.warning("heartbeat.failed", error=in_one_line(error))
            if last:
                return
            self._at_once.wait(_EVERY_SECONDS)

    def _current(self) -> Progress:
        behind = self._behind()
        with self._changing:
            changes = {"tracking_behind": behind, "eta_seconds": eta_seconds(self._progress, self._expected_end)}
            self._progress = self._progress.model_copy(update={**changes, "updated_at": datetime.now(UTC)})
            return self._progress


def eta_seconds(progress: Progress, expected_end: datetime | None) -> float | None:
    """The time left, now; None as long as nothing is known of it."""
    if expected_end:
        return max(0.0, (expected_end - datetime.now(UTC)).total_seconds())
    remaining = max(0, progress.total_images - progress.images_seen)
    return remaining / progress.images_per_second if progress.images_per_second else None
