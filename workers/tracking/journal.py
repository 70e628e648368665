"""The run in the object store: every metric row and picture, from which all else can be rebuilt."""

import json
from typing import assert_never

import structlog

from workers.contract.keys import AttemptKeys, JobKeys
from workers.contract.metric_rows import rows_of
from workers.storage import ObjectStore
from workers.storage.job_folder import attempt_numbers, newest_attempt
from workers.tracking.events import Checkpointed, Ended, Event, Grid, Metrics

log = structlog.get_logger()


class Journal:
    """Writes metric rows as JSON-lines chunks of one attempt, pictures under the job.

    No chunk is ever overwritten: workers that restart within an attempt may not be its only ones, since the first of
    those before may live on where Ray no longer sees it. If both write, their chunks follow each other.
    """

    def __init__(self, store: ObjectStore, job: JobKeys, attempt: int) -> None:
        self._store = store
        self._job = job
        self._number = attempt
        self._attempt = job.attempt(attempt)
        self._next_chunk: int | None = None

    def deliver(self, events: list[Event]) -> None:
        """Write events; after an exception, may be called again with the same ones."""
        if self._next_chunk is None:  # workers restarted within an attempt go on where the last ones stopped
            self._next_chunk = len(self._store.list(self._attempt.metrics))
        lines = []
        for event in events:
            match event:
                case Metrics():
                    lines.append({"images_seen": event.images_seen, "time": event.time, **event.values})
                case Grid():
                    self._keep(event)
                case Checkpointed() | Ended():
                    pass  # their own records say so
                case _:
                    assert_never(event)
        if lines:
            chunk = "".join(json.dumps(line) + "\n" for line in lines)
            self._next_chunk = self._append(chunk.encode(), self._next_chunk) + 1

    def _append(self, chunk: bytes, number: int) -> int:
        """Put it at the first number from this one on that is free, and return that.

        Where it is already, an earlier try has arrived, and only its answer got lost.
        """
        while not self._store.put_if_absent(key := self._attempt.metrics_chunk(number), chunk):
            if self._store.get(key) == chunk:
                break
            number += 1
        return number

    def _keep(self, grid: Grid) -> None:
        """All attempts share the places of pictures: one that has been superseded leaves them alone."""
        if newest_attempt(self._store, self._job) > self._number:
            log.warning("grid.superseded", images_seen=grid.images_seen)
        else:
            self._store.put(self._job.sample(grid.images_seen), grid.png)


def recorded_rows(store: ObjectStore, job: JobKeys, *, after: int) -> dict[int, dict[str, float]]:
    """What all attempts have written of the images beyond `after`: rows by images seen, the later attempt's if both."""
    rows: dict[int, dict[str, float]] = {}
    for number in attempt_numbers(store, job):
        rows |= _rows_of(store, job.attempt(number), after)
    return rows


def recorded_values(store: ObjectStore, job: JobKeys) -> dict[int, dict[str, float]]:
    """All that was ever measured, by images seen; of two values of one name the later attempt's.

    Beside `recorded_rows` these are how long checkpoints took. Rows that cannot be read are left out. The time is that
    of the steps, where there is one.
    """
    values: dict[int, dict[str, float]] = {}
    for number in attempt_numbers(store, job):
        for key in store.list(job.attempt(number).metrics):
            for row in filter(None, rows_of(store.get(key))):
                there = values.setdefault(row.images_seen, {})
                time = row.time if _is_of_steps(row.values) else there.get("time", row.time)
                there |= {**row.values, "time": time}
    return values


def _rows_of(store: ObjectStore, attempt: AttemptKeys, after: int) -> dict[int, dict[str, float]]:
    """From the end backwards to the first that is not beyond, so that a resume does not read days of curves.

    Rows that tell how long a checkpoint took come later than rows of what was trained meanwhile, and do not count.
    """
    rows: dict[int, dict[str, float]] = {}
    for key in reversed(store.list(attempt.metrics)):
        found = {
            row.images_seen: row.values | {"time": row.time}
            for row in filter(None, rows_of(store.get(key)))
            if _is_of_steps(row.values)
        }
        rows = {seen: row for seen, row in found.items() if seen > after} | rows
        if any(seen <= after for seen in found):
            break
    return rows


def _is_of_steps(row: dict[str, float]) -> bool:
    return any(name.startswith("loss/") for name in row)
