"""The REST interface of metrics."""

from typing import Annotated

from fastapi import Query

from service.errors import JobGone, JobNotFound, MlflowUnavailable
from service.jobs.dependencies import ReadableJob
from service.metrics.usecases import Metrics
from service.metrics.views import MetricSeriesList
from service.web.problems import documented
from service.web.routers import of_state, v1_router

router = v1_router("metrics", MlflowUnavailable)

_KEY = r"[\w.:/ -]+"  # what MLflow takes for the name of a metric
_KEYS = rf"^{_KEY}(,{_KEY}){{0,19}}$"


Service = Annotated[Metrics, of_state("metrics")]
ImagesSeen = Annotated[int, Query(ge=0, lt=2**63, description="Images seen, inclusive")]


@router.get(
    "/jobs/{job_id}/metrics",
    summary="Read the curves of a job, or what there are",
    description="Without `keys`: every key and its latest value. With keys: their curves, by images seen, down-sampled "
    "so that they look the same. The curves come from MLflow; a job that has not begun has none.",
    responses=documented(JobNotFound, JobGone),
)
async def read_metrics(
    job: ReadableJob,
    metrics: Service,
    keys: Annotated[
        str | None, Query(pattern=_KEYS, max_length=5020, description="At most 20, with commas between")
    ] = None,
    first: Annotated[ImagesSeen, Query(alias="from")] = 0,
    last: Annotated[ImagesSeen, Query(alias="to")] = 2**63 - 1,
    max_points: Annotated[int, Query(ge=3, le=5000, description="Of each curve")] = 500,
) -> MetricSeriesList:
    if keys is None:
        return await metrics.overview(job)
    wanted, span = tuple(dict.fromkeys(keys.split(","))), range(first, last + 1)
    return await metrics.series(job, keys=wanted, within=span, max_points=max_points)
