"""The little that the control plane wants of MLflow, over its REST interface."""

import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Literal, TypeVar

import httpx2
from pydantic import BaseModel, Field, ValidationError

from service.errors import MlflowUnavailable
from workers.contract.metric_rows import MeasuredRow
from workers.contract.tracking import (
    EXPERIMENT,
    MAX_METRICS,
    MAX_PARAMS,
    describes,
    identity,
    json_number,
    run_filter,
)

RunStatus = Literal["FINISHED", "FAILED", "KILLED"]
_TIMEOUT = httpx2.Timeout(30.0, connect=5.0)  # a thousand points take a slow database seconds
_PING_SECONDS = 5.0
_PAGE = 5000  # MLflow gives up to 25,000, but takes seconds for so many
_LAST_MS = 253_402_300_799_999  # of the year 9999


@dataclass(frozen=True, slots=True)
class Point:
    """A measured value, None if it was not finite; `time_ms` is Unix time."""

    images_seen: int
    value: float | None
    time_ms: int


def finite(value: float) -> float | None:
    """The value, or None. MLflow keeps an infinity as the largest number there is."""
    return value if abs(value) < sys.float_info.max else None


class _Metric(BaseModel):
    key: str
    value: float
    timestamp: Annotated[int, Field(ge=0, le=_LAST_MS)]
    step: int = 0

    def point(self) -> Point:
        return Point(images_seen=self.step, value=finite(self.value), time_ms=self.timestamp)


class _Page(BaseModel):
    next_page_token: str | None = None


class _History(_Page):
    metrics: tuple[_Metric, ...] = ()


class _Step(BaseModel):
    step: int = 0


class _Steps(_Page):
    metrics: tuple[_Step, ...] = ()


class _Latest(BaseModel):
    metrics: tuple[_Metric, ...] = ()


class _LatestRun(BaseModel):
    data: _Latest = _Latest()


class _LatestAnswer(BaseModel):
    run: _LatestRun


class _Tag(BaseModel):
    key: str


class _RunInfo(BaseModel):
    run_id: str
    experiment_id: str
    lifecycle_stage: str = "active"


class _RunData(BaseModel):
    tags: tuple[_Tag, ...] = ()


class _Run(BaseModel):
    info: _RunInfo
    data: _RunData = _RunData()


class _RunAnswer(BaseModel):
    run: _Run


class _RunsAnswer(BaseModel):
    runs: tuple[_Run, ...] = ()


class _Experiment(BaseModel):
    experiment_id: str


class _ExperimentAnswer(BaseModel):
    experiment: _Experiment


class _Done(BaseModel):
    """Whatever it says."""


class _NotFound(MlflowUnavailable):
    """MLflow knows no such thing."""


_Answer = TypeVar("_Answer", bound=BaseModel)
_PageOf = TypeVar("_PageOf", bound=_Page)


class Mlflow:
    """A tracking server. `headers` go with every request: a login, if it has one.

    Every call may raise MlflowUnavailable.
    """

    def __init__(
        self,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        page_size: int = _PAGE,
        transport: httpx2.AsyncBaseTransport | None = None,
    ) -> None:
        self._page_size = page_size
        self._http = httpx2.AsyncClient(base_url=url, headers=headers, timeout=_TIMEOUT, transport=transport)

    async def latest(self, run_id: str) -> dict[str, Point]:
        """The last point of every curve of a run, by key."""
        metrics = (await self._get(_LatestAnswer, "runs/get", {"run_id": run_id})).run.data.metrics
        return {metric.key: metric.point() for metric in sorted(metrics, key=lambda one: one.key)}

    async def history(self, run_id: str, key: str) -> list[Point]:
        """All points of one curve by images seen, one at each: the last one measured, if an attempt went back."""
        found = [metric.point() async for page in self._pages(_History, run_id, key) for metric in page.metrics]
        found.sort(key=lambda point: point.time_ms)
        last = {point.images_seen: point for point in found}
        return [last[images_seen] for images_seen in sorted(last)]

    async def steps(self, run_id: str, key: str) -> AsyncIterator[list[int]]:
        """Where a curve has points, page by page."""
        async for page in self._pages(_Steps, run_id, key):
            yield [metric.step for metric in page.metrics]

    async def experiment_of(self, run_id: str) -> str:
        """The id of the experiment that a run belongs to; its page needs both."""
        return (await self._run(run_id)).info.experiment_id

    async def run_of(self, job_id: str, store_url: str, *, known: str | None) -> str | None:
        """The id of a job's run: the known one unless MLflow has lost it, else the one that has its tags, if any."""
        if known and await self._is_there(known):
            return known
        same = run_filter(identity(job_id, store_url))
        search = {"experiment_ids": [await self._experiment()], "filter": same, "max_results": 1}
        runs = (await self._post(_RunsAnswer, "runs/search", search)).runs
        return runs[0].info.run_id if runs else None

    async def make_run(self, job_id: str, store_url: str, *, name: str, params: Mapping[str, str]) -> str:
        """A run that is known as the job's, with these parameters; its id."""
        tags, experiment_id = _pairs(identity(job_id, store_url)), await self._experiment()
        document = {"experiment_id": experiment_id, "run_name": name, "tags": tags}
        run_id = (await self._post(_RunAnswer, "runs/create", document)).run.info.run_id
        pairs = _pairs(params)
        for first in range(0, len(pairs), MAX_PARAMS):
            await self._batch(run_id, params=pairs[first : first + MAX_PARAMS])
        return run_id

    async def log_rows(self, run_id: str, rows: Sequence[MeasuredRow]) -> None:
        metrics = [
            {"key": key, "step": row.images_seen, "value": json_number(value), "timestamp": int(row.time * 1000)}
            for row in rows
            for key, value in row.values.items()
        ]
        for first in range(0, len(metrics), MAX_METRICS):
            await self._batch(run_id, metrics=metrics[first : first + MAX_METRICS])

    async def describe_run(self, run_id: str, tags: Mapping[str, str]) -> None:
        """Have a run tell this of its job (`description`), and nothing of the kind that is no longer so."""
        there = [tag.key for tag in (await self._run(run_id)).data.tags]
        for key in (key for key in there if describes(key) and key not in tags):
            await self._post(_Done, "runs/delete-tag", {"run_id": run_id, "key": key})
        await self._batch(run_id, tags=_pairs(tags))

    async def close_run(self, run_id: str, *, status: RunStatus, at: datetime) -> None:
        """Give a run its final status."""
        document = {"run_id": run_id, "status": status, "end_time": int(at.timestamp() * 1000)}
        await self._post(_Done, "runs/update", document)

    async def ping(self) -> None:
        """Return if the API answers. `/health` would not do: it skips the check of host names that the API makes."""
        await self._get(_Done, "experiments/search", {"max_results": "1"}, timeout=_PING_SECONDS)

    async def close(self) -> None:
        await self._http.aclose()

    async def _pages(self, kind: type[_PageOf], run_id: str, key: str) -> AsyncIterator[_PageOf]:
        """The points of a curve, in the order that they came in."""
        query = {"run_id": run_id, "metric_key": key, "max_results": str(self._page_size)}
        while True:
            page = await self._get(kind, "metrics/get-history", query)
            yield page
            if not page.next_page_token:
                return
            query["page_token"] = page.next_page_token

    async def _is_there(self, run_id: str) -> bool:
        try:
            return (await self._run(run_id)).info.lifecycle_stage != "deleted"
        except _NotFound:
            return False

    async def _run(self, run_id: str) -> _Run:
        return (await self._get(_RunAnswer, "runs/get", {"run_id": run_id})).run

    async def _experiment(self) -> str:
        try:
            found = await self._get(_ExperimentAnswer, "experiments/get-by-name", {"experiment_name": EXPERIMENT})
        except _NotFound:
            return (await self._post(_Experiment, "experiments/create", {"name": EXPERIMENT})).experiment_id
        return found.experiment.experiment_id

    async def _batch(self, run_id: str, **what: Sequence[Mapping[str, Any]]) -> None:
        await self._post(_Done, "runs/log-batch", {"run_id": run_id, **what})

    async def _get(self, kind: type[_Answer], name: str, query: Mapping[str, str], **options: Any) -> _Answer:
        return await self._call(kind, "GET", name, params=query, **options)

    async def _post(self, kind: type[_Answer], name: str, document: Mapping[str, Any]) -> _Answer:
        return await self._call(kind, "POST", name, json=document)

    async def _call(self, kind: type[_Answer], method: str, name: str, **options: Any) -> _Answer:
        try:
            response = await self._http.request(method, f"/api/2.0/mlflow/{name}", **options)
            response.raise_for_status()
            return kind.model_validate_json(response.content)
        except httpx2.HTTPStatusError as error:
            status = error.response.status_code
            refused = _NotFound if status == 404 else MlflowUnavailable
            raise refused(f"MLflow answers {status} to {name}: try again") from error
        except (httpx2.HTTPError, ValidationError) as error:
            raise MlflowUnavailable(f"MLflow does not answer ({type(error).__name__}): try again") from error


def _pairs(values: Mapping[str, str]) -> list[dict[str, str]]:
    return [{"key": key, "value": value} for key, value in values.items()]
