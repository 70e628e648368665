"""Ray, through the REST interface of its job submission (2.60).

Status codes say little here: what an agent refuses comes back as 500 with a traceback. The text decides.
"""

from typing import Any

import httpx2
from pydantic import SecretStr

from service.cluster.base import (
    AlreadySubmitted,
    ClusterUnreachable,
    Run,
    RunStatus,
    Submission,
    SubmissionRefused,
)

_TIMEOUT = httpx2.Timeout(30.0, connect=3.0)  # the head looks for an agent for 10 s before it says there is none


class RayCluster:
    """A Ray head with its dashboard."""

    def __init__(self, url: str, *, token: SecretStr | None = None) -> None:
        headers = {"Authorization": f"Bearer {token.get_secret_value()}"} if token else {}
        self._http = httpx2.AsyncClient(base_url=url, headers=headers, timeout=_TIMEOUT)

    async def submit(self, submission: Submission) -> None:
        response = await self._request("POST", "/api/jobs/", json=_document(submission))
        if response.is_success:
            return
        if "already exists" in response.text:
            raise AlreadySubmitted(submission.submission_id)
        if _is_refusal(response):
            raise SubmissionRefused(_last_line(response))
        raise ClusterUnreachable(_last_line(response))

    async def find(self, submission_id: str) -> Run | None:
        response = await self._known("GET", f"/api/jobs/{submission_id}")
        if response is None:
            return None
        found = response.json()
        return Run(
            submission_id=submission_id,
            status=RunStatus(found["status"]),
            error_type=found.get("error_type"),
            message=found.get("message"),
            metadata=found.get("metadata") or {},
        )

    async def stop(self, submission_id: str) -> None:
        await self._known("POST", f"/api/jobs/{submission_id}/stop")  # its answer says true even where nothing happens

    async def logs(self, submission_id: str) -> str:
        response = await self._known("GET", f"/api/jobs/{submission_id}/logs")
        return "" if response is None else str(response.json()["logs"] or "")

    async def probe(self) -> None:
        # The dashboard answers long before, and long after, there is an agent that takes submissions. The agent checks
        # the label selector before it writes anything down, so a wrong one comes back refused from the very end of
        # the path and leaves no trace.
        probe = {"entrypoint": "true", "entrypoint_label_selector": {"cdm-probe": "!!not a value"}}
        response = await self._request("POST", "/api/jobs/", json=probe)
        if not _is_refusal(response):
            raise ClusterUnreachable(_last_line(response))

    async def close(self) -> None:
        await self._http.aclose()

    async def _known(self, method: str, path: str) -> httpx2.Response | None:
        """The answer about one submission; None if Ray itself (not a proxy before it) says that there is none."""
        response = await self._request(method, path)
        if response.status_code == 404 and "does not exist" in response.text:
            return None
        if response.is_success:
            return response
        raise ClusterUnreachable(_last_line(response))

    async def _request(self, method: str, path: str, **options: Any) -> httpx2.Response:
        try:
            response = await self._http.request(method, path, **options)
        except httpx2.TransportError as error:
            raise ClusterUnreachable(f"{type(error).__name__}: {error}".rstrip(": ")) from None
        if response.status_code in {401, 403}:
            raise ClusterUnreachable("Ray refuses the token of this service: set CDM_RAY_TOKEN to the head's")
        return response


def _document(submission: Submission) -> dict[str, Any]:
    return {
        "submission_id": submission.submission_id,
        "entrypoint": submission.entrypoint,
        "metadata": dict(submission.metadata),
        "runtime_env": {"env_vars": dict(submission.environment)},
    }


def _is_refusal(response: httpx2.Response) -> bool:
    return response.status_code == 400 or "failed with status code 400" in response.text


def _last_line(response: httpx2.Response) -> str:
    lines = response.text.strip().splitlines()
    return f"HTTP {response.status_code}: {lines[-1][:500] if lines else 'no text'}"
