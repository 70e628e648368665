"""What can be asked about the curves of a job."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from service.jobs.records import JobRecord
from service.metrics.downsampling import down_sample
from service.metrics.views import MetricPoint, MetricSeries, MetricSeriesList
from service.mlflow import Mlflow, Point


@dataclass(frozen=True, slots=True, kw_only=True)
class Metrics:
    """The use cases. A job that has not begun has no run in MLflow, and no curves."""

    mlflow: Mlflow

    async def overview(self, job: JobRecord) -> MetricSeriesList:
        """All keys of a job and their latest values."""
        latest = await self._latest(job)
        data = (MetricSeries(key=key, latest=_view(point), points=()) for key, point in latest.items())
        return MetricSeriesList(data=tuple(data))

    async def series(self, job: JobRecord, *, keys: Sequence[str], within: range, max_points: int) -> MetricSeriesList:
        """The curves of these keys, as far as the images seen are `within`, down-sampled."""
        run_id, latest = job.mlflow_run_id, await self._latest(job)  # of a lost run MLflow gives empty histories

        async def one(key: str) -> MetricSeries:
            if run_id is None or key not in latest:
                return MetricSeries(key=key, latest=None, points=())
            history = await self.mlflow.history(run_id, key)
            chosen = [point for point in history if point.images_seen in within]
            points = await asyncio.to_thread(down_sample, chosen, max_points)  # a tenth of a second for 100,000
            return MetricSeries(key=key, latest=_view(latest[key]), points=tuple(map(_view, points)))

        return MetricSeriesList(data=tuple(await asyncio.gather(*map(one, keys))))

    async def _latest(self, job: JobRecord) -> dict[str, Point]:
        return await self.mlflow.latest(job.mlflow_run_id) if job.mlflow_run_id else {}


def _view(point: Point) -> MetricPoint:
    time = datetime.fromtimestamp(point.time_ms / 1000, UTC)
    return MetricPoint(images_seen=point.images_seen, value=point.value, time=time)
