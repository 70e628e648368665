"""Curves as MLflow has them, over its REST interface."""

from collections.abc import Mapping
from typing import Annotated, TypeVar

import httpx2
from pydantic import BaseModel, Field, ValidationError

from service.metrics.downsampling import Point, finite
from service.metrics.errors import MetricsUnavailable

_TIMEOUT = httpx2.Timeout(30.0, connect=3.0)
_PAGE = 5000  # MLflow gives up to 25,000, but takes seconds for so many
_LAST_MS = 253_402_300_799_999  # of the year 9999


class _Metric(BaseModel):
    key: str
    value: float
    timestamp: Annotated[int, Field(ge=0, le=_LAST_MS)]
    step: int = 0

    def point(self) -> Point:
        return Point(images_seen=self.step, value=finite(self.value), time_ms=self.timestamp)


class _History(BaseModel):
    metrics: tuple[_Metric, ...] = ()
    next_page_token: str | None = None


class _RunData(BaseModel):
    metrics: tuple[_Metric, ...] = ()


class _Run(BaseModel):
    data: _RunData = _RunData()


class _RunAnswer(BaseModel):
    run: _Run


_Answer = TypeVar("_Answer", bound=BaseModel)


class MlflowCurves:
    """Reads the metrics of runs; `headers` go with every request. Every call may raise MetricsUnavailable."""

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
        answer = await self._get(_RunAnswer, "runs/get", {"run_id": run_id})
        return {metric.key: metric.point() for metric in sorted(answer.run.data.metrics, key=lambda one: one.key)}

    async def history(self, run_id: str, key: str) -> list[Point]:
        """All points of one curve by images seen, one at each: the last one measured, if an attempt went back."""
        found: list[Point] = []
        query = {"run_id": run_id, "metric_key": key, "max_results": str(self._page_size)}
        while True:
            page = await self._get(_History, "metrics/get-history", query)
            found += [metric.point() for metric in page.metrics]
            if not page.next_page_token:
                break
            query["page_token"] = page.next_page_token
        found.sort(key=lambda point: point.time_ms)
        last = {point.images_seen: point for point in found}
        return [last[images_seen] for images_seen in sorted(last)]

    async def close(self) -> None:
        await self._http.aclose()

    async def _get(self, kind: type[_Answer], name: str, query: dict[str, str]) -> _Answer:
        try:
            response = await self._http.get(f"/api/2.0/mlflow/{name}", params=query)
            response.raise_for_status()
            return kind.model_validate_json(response.content)
        except httpx2.HTTPStatusError as error:
            raise MetricsUnavailable(f"MLflow answers {error.response.status_code} to {name}: try again") from error
        except (httpx2.HTTPError, ValidationError) as error:
            raise MetricsUnavailable(f"MLflow does not answer ({type(error).__name__}): try again") from error
