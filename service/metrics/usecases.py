"""What can be asked about the curves of a job."""

import asyncio
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol

from service.metrics.downsampling import Point, down_sample
from service.metrics.mlflow import MlflowCurves
from service.metrics.views import MetricPoint, MetricSeries, MetricSeriesList


class Tracked(Protocol):
    """A job whose curves are in this run of MLflow, or that has none yet."""

    @property
    def mlflow_run_id(self) -> str | None: ...


class FindJob(Protocol):
    """Raises JobNotFound, also for a job of another project."""

    def __call__(self, job_id: str, *, project: str) -> Awaitable[Tracked]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Metrics:
    """The use cases. A job of another project is not found."""

    find_job: FindJob
    curves: MlflowCurves

    async def overview(self, job_id: str, *, project: str) -> MetricSeriesList:
        """All keys of a job and their latest values."""
        run_id = (await self.find_job(job_id, project=project)).mlflow_run_id
        latest = await self.curves.latest(run_id) if run_id else {}
        data = (MetricSeries(key=key, latest=_view(point), points=()) for key, point in latest.items())
        return MetricSeriesList(data=tuple(data))

    async def series(
        self, job_id: str, *, project: str, keys: Sequence[str], within: range, max_points: int
    ) -> MetricSeriesList:
        """The curves of these keys, as far as the images seen are `within`, down-sampled."""
        run_id = (await self.find_job(job_id, project=project)).mlflow_run_id
        latest = await self.curves.latest(run_id) if run_id else {}  # of a lost run MLflow gives empty histories

        async def one(key: str) -> MetricSeries:
            if run_id is None or key not in latest:
                return MetricSeries(key=key, latest=None, points=())
            history = await self.curves.history(run_id, key)
            chosen = [point for point in history if point.images_seen in within]
            points = await asyncio.to_thread(down_sample, chosen, max_points)  # a tenth of a second for 100,000
            return MetricSeries(key=key, latest=_view(latest[key]), points=tuple(map(_view, points)))

        return MetricSeriesList(data=tuple(await asyncio.gather(*map(one, keys))))


def _view(point: Point) -> MetricPoint:
    time = datetime.fromtimestamp(point.time_ms / 1000, UTC)
    return MetricPoint(images_seen=point.images_seen, value=point.value, time=time)
