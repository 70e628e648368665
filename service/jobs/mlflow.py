"""The little that the control plane wants of MLflow, over its REST interface."""

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

import httpx2

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
_PAGE = 5000


@dataclass(frozen=True, slots=True)
class Point:
    """Of a curve, with the time that it was measured at."""

    key: str
    step: int
    value: float
    time_ms: int


class MlflowError(Exception):
    """MLflow did not answer, or not well."""


class MlflowNotFound(MlflowError):
    """MLflow knows no such thing."""


class Mlflow:
    """A tracking server. `headers` go with every request: a login, if it has one."""

    def __init__(
        self, url: str, *, headers: Mapping[str, str] | None = None, transport: httpx2.AsyncBaseTransport | None = None
    ) -> None:
        self._http = httpx2.AsyncClient(base_url=url, headers=headers, timeout=_TIMEOUT, transport=transport)

    async def experiment_of(self, run_id: str) -> str:
        """The id of the experiment that a run belongs to; its page needs both."""
        answer = await self._call("GET", "runs/get", params={"run_id": run_id})
        return str(answer["run"]["info"]["experiment_id"])

    async def close_run(self, run_id: str, *, status: RunStatus, at: datetime) -> None:
        """Give a run its final status."""
        document = {"run_id": run_id, "status": status, "end_time": int(at.timestamp() * 1000)}
        await self._call("POST", "runs/update", json=document)

    async def run_of(self, job_id: str, store_url: str, *, known: str | None) -> str | None:
        """The id of a job's run: the known one unless MLflow has lost it, else the one that has its tags, if any."""
        if known and await self._is_there(known):
            return known
        same = run_filter(identity(job_id, store_url))
        search = {"experiment_ids": [await self._experiment()], "filter": same, "max_results": 1}
        runs = (await self._call("POST", "runs/search", json=search)).get("runs")
        return str(runs[0]["info"]["run_id"]) if runs else None

    async def describe_run(self, run_id: str, tags: Mapping[str, str]) -> None:
        """Have a run tell this of its job (`description`), and nothing of the kind that is no longer so."""
        run = (await self._call("GET", "runs/get", params={"run_id": run_id}))["run"]
        there = [tag["key"] for tag in run.get("data", {}).get("tags", ())]
        for key in (key for key in there if describes(key) and key not in tags):
            await self._call("POST", "runs/delete-tag", json={"run_id": run_id, "key": key})
        await self._batch(run_id, tags=_pairs(tags))

    async def make_run(self, job_id: str, store_url: str, *, name: str, params: Mapping[str, str]) -> str:
        """A run that is known as the job's, with these parameters; its id."""
        tags, experiment_id = _pairs(identity(job_id, store_url)), await self._experiment()
        document = {"experiment_id": experiment_id, "run_name": name, "tags": tags}
        run_id = str((await self._call("POST", "runs/create", json=document))["run"]["info"]["run_id"])
        pairs = _pairs(params)
        for first in range(0, len(pairs), MAX_PARAMS):
            await self._batch(run_id, params=pairs[first : first + MAX_PARAMS])
        return run_id

    async def steps(self, run_id: str, key: str) -> AsyncIterator[list[int]]:
        """Where a curve has points, page by page."""
        query = {"run_id": run_id, "metric_key": key, "max_results": str(_PAGE)}
        while True:
            page = await self._call("GET", "metrics/get-history", params=query)
            yield [int(point.get("step", 0)) for point in page.get("metrics", [])]
            if not page.get("next_page_token"):
                return
            query["page_token"] = page["next_page_token"]

    async def log_points(self, run_id: str, points: Sequence[Point]) -> None:
        for first in range(0, len(points), MAX_METRICS):
            metrics = [
                {"key": point.key, "step": point.step, "value": json_number(point.value), "timestamp": point.time_ms}
                for point in points[first : first + MAX_METRICS]
            ]
            await self._batch(run_id, metrics=metrics)

    async def _is_there(self, run_id: str) -> bool:
        try:
            info = (await self._call("GET", "runs/get", params={"run_id": run_id}))["run"]["info"]
        except MlflowNotFound:
            return False
        return bool(info.get("lifecycle_stage") != "deleted")

    async def _experiment(self) -> str:
        try:
            found = await self._call("GET", "experiments/get-by-name", params={"experiment_name": EXPERIMENT})
        except MlflowNotFound:
            return str((await self._call("POST", "experiments/create", json={"name": EXPERIMENT}))["experiment_id"])
        return str(found["experiment"]["experiment_id"])

    async def _batch(self, run_id: str, **what: list[dict[str, Any]]) -> None:
        await self._call("POST", "runs/log-batch", json={"run_id": run_id, **what})

    async def ping(self) -> None:
        """Return if the API answers. `/health` would not do: it skips the check of host names that the API makes."""
        await self._call("GET", "experiments/search", params={"max_results": 1}, timeout=_PING_SECONDS)

    async def close(self) -> None:
        await self._http.aclose()

    async def _call(self, method: str, name: str, **options: Any) -> dict[str, Any]:
        try:
            response = await self._http.request(method, f"/api/2.0/mlflow/{name}", **options)
            response.raise_for_status()
            answer: dict[str, Any] = response.json()
        except (httpx2.HTTPError, ValueError) as error:
            is_absent = isinstance(error, httpx2.HTTPStatusError) and error.response.status_code == 404
            kind = MlflowNotFound if is_absent else MlflowError
            raise kind(f"{type(error).__name__}: {error}".rstrip(": ")) from None
        return answer


def _pairs(values: Mapping[str, str]) -> list[dict[str, str]]:
    return [{"key": key, "value": value} for key, value in values.items()]
