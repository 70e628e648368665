"""Everything the first process tells the world about a run, in one place."""

import os
import time
from collections.abc import Callable, Mapping
from typing import Any

from workers.contract.keys import JobKeys
from workers.contract.records import DeliveryDelay, Progress
from workers.contract.tracking import check_curve_name
from workers.logs import in_one_line
from workers.storage import ObjectStore
from workers.tracking.background import Background
from workers.tracking.backlog import ItemBacklog
from workers.tracking.events import Checkpointed, Ended, Event, Grid, Metrics, MlflowStatus, num_bytes
from workers.tracking.heartbeat import Heartbeat
from workers.tracking.journal import Journal

GATHER_SECONDS = 3.0  # between two deliveries
_CLOSE_SECONDS = 30.0
_CLOSE_STOPPED_SECONDS = 5.0  # who is asked to leave has a grace, and is to say in it how the attempt ended
_RECORD_SECONDS = 10.0


class Reporter:
    """Tells the journal, MLflow (if MLFLOW_TRACKING_URI is set) and the heartbeat; training waits for none of them."""

    def __init__(
        self,
        store: ObjectStore,
        job: JobKeys,
        attempt: int,
        *,
        store_url: str,
        progress: Progress,
        params: dict[str, str],
        tags: dict[str, str],
        name: str | None = None,
    ) -> None:
        keys = job.attempt(attempt)
        self._store_url = store_url
        self._journal = _in_background("journal", Journal(store, job, attempt).deliver)
        self._of_rows, self._of_pictures = [self._journal], [self._journal]
        if os.environ.get("MLFLOW_TRACKING_URI"):
            deliver = self._to_mlflow(job.job_id, name, params, tags)
            self._of_rows.append(_in_background("mlflow", deliver))
            # It keeps files in a place of its own, and may not reach that: rows do not wait behind a picture.
            self._of_pictures.append(_in_background("mlflow_pictures", deliver))
        self._receivers = list(dict.fromkeys(self._of_rows + self._of_pictures))
        self._heartbeat = Heartbeat(store, keys.progress, progress, behind=self._behind)

    def progress(self, **changes: Any) -> None:
        """Change fields of the `Progress` that users see."""
        self._heartbeat.update(**changes)

    def metrics(
        self,
        images_seen: int,
        *,
        losses: dict[str, float],
        rate: float,
        telemetry: dict[str, float],
        peak_memory_bytes: int | None = None,
    ) -> dict[str, float]:
        """Losses by name, images per second, and whatever else was measured, by the name of its curve.

        Returns the row as it is recorded. What cannot be is refused here, and not where rows are delivered: there it
        would be tried for ever, and keep all later ones waiting.

        Raises:
            TypeError: a value is not one number; a tensor of one element is.
            ValueError: a curve cannot have this name.
        """
        values = {f"loss/{name}": value for name, value in losses.items()}
        values |= {"throughput/images_per_second": rate} | telemetry
        if peak_memory_bytes is not None:
            values["memory/peak_bytes"] = peak_memory_bytes
        row = _plain(values)
        self._heartbeat.update(
            phase="training",
            images_seen=images_seen,
            losses={name: row[f"loss/{name}"] for name in losses},
            images_per_second=row["throughput/images_per_second"],
            peak_memory_bytes=peak_memory_bytes,
        )
        self._tell(Metrics(images_seen, time.time(), row))
        return row

    def checkpoint(self, images_seen: int, key: str, *, seconds: float) -> None:
        self._heartbeat.update(last_checkpoint_images=images_seen)  # training is further on by now
        self._tell(Checkpointed(images_seen, key))
        self._tell(Metrics(images_seen, time.time(), {"time/checkpoint_seconds": seconds}))

    def record(self) -> None:
        """Have what was told so far in the journal; given up after ten seconds, if the store does not take it."""
        self._journal.flush(_RECORD_SECONDS)

    def grid(self, images_seen: int, png: bytes) -> None:
        self._tell(Grid(images_seen, time.time(), png))

    def close(self, status: MlflowStatus | None) -> str | None:
        """Deliver what is left, for at most half a minute; return the MLflow run's id if there is one.

        Who was asked to leave ("KILLED") waits for five seconds: the service replays from the journal what is missing.
        Without a status, MLflow's run is left open: somebody else goes on with it.
        """
        if status:
            self._tell(Ended(status))
        deadline = time.monotonic() + (_CLOSE_STOPPED_SECONDS if status == "KILLED" else _CLOSE_SECONDS)
        for receiver in self._receivers:
            receiver.close(max(0.0, deadline - time.monotonic()))
        self._heartbeat.close()
        return self._heartbeat.progress.mlflow_run_id

    def _tell(self, event: Event) -> None:
        for receiver in self._of_pictures if isinstance(event, Grid) else self._of_rows:
            receiver.offer(event)

    def _behind(self) -> dict[str, DeliveryDelay]:
        return {receiver.name: behind for receiver in self._receivers if (behind := receiver.behind())}

    def _to_mlflow(
        self, job_id: str, name: str | None, params: dict[str, str], tags: dict[str, str]
    ) -> Callable[[list[Event]], None]:
        from workers.tracking.mlflow_run import MlflowRun  # a second to import, and not everyone tracks

        run = MlflowRun(job_id, store_url=self._store_url, params=params, tags=tags, name=name)

        def deliver(events: list[Event]) -> None:
            run.deliver(events)
            self._heartbeat.update(mlflow_run_id=run.run_id)

        return deliver


def _plain(values: Mapping[str, Any]) -> dict[str, float]:
    for name in values:
        check_curve_name(name)
    return {name: _number(name, value) for name, value in values.items()}


def _number(name: str, value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError, RuntimeError) as error:
        what = f"the curve {name!r} takes one number, not a {type(value).__name__}"
        raise TypeError(f"{what}: {in_one_line(error)}") from error


def _in_background(name: str, deliver: Callable[[list[Event]], None]) -> Background[Event, list[Event]]:
    return Background(name, deliver, ItemBacklog(num_bytes), every_seconds=GATHER_SECONDS)
