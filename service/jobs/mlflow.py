"""The little that the control plane wants of MLflow, over its REST interface."""

from datetime import datetime
from typing import Any, Literal

import httpx2

RunStatus = Literal["FINISHED", "FAILED", "KILLED"]
_TIMEOUT = httpx2.Timeout(5.0)


class MlflowError(Exception):
    """MLflow did not answer, or not well."""


class Mlflow:
    """A tracking server."""

    def __init__(self, url: str, *, transport: httpx2.AsyncBaseTransport | None = None) -> None:
        self._http = httpx2.AsyncClient(base_url=url, timeout=_TIMEOUT, transport=transport)

    async def experiment_of(self, run_id: str) -> str:
        """The id of the experiment that a run belongs to; its page needs both."""
        answer = await self._call("GET", "runs/get", params={"run_id": run_id})
        return str(answer["run"]["info"]["experiment_id"])

    async def close_run(self, run_id: str, *, status: RunStatus, at: datetime) -> None:
        """Give a run its final status."""
        document = {"run_id": run_id, "status": status, "end_time": int(at.timestamp() * 1000)}
        await self._call("POST", "runs/update", json=document)

    async def ping(self) -> None:
        """Return if the API answers. `/health` would not do: it skips the check of host names that the API makes."""
        await self._call("GET", "experiments/search", params={"max_results": 1})

    async def close(self) -> None:
        await self._http.aclose()

    async def _call(self, method: str, name: str, **options: Any) -> dict[str, Any]:
        try:
            response = await self._http.request(method, f"/api/2.0/mlflow/{name}", **options)
            response.raise_for_status()
            answer: dict[str, Any] = response.json()
        except (httpx2.HTTPError, ValueError) as error:
            raise MlflowError(f"{type(error).__name__}: {error}".rstrip(": ")) from None
        return answer
