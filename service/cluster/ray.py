"""Ray, through the REST interface of its dashboard (2.60).

Status codes say little here: what an agent refuses comes back as 500 with a traceback. The text decides.
"""

import asyncio
from typing import Any
from urllib.parse import quote

from pydantic import SecretStr

from service.cluster import ray_answers as answers
from service.cluster import ray_capacity
from service.cluster.base import (
    NO_RESOURCES,
    AlreadySubmitted,
    Capacity,
    ClusterUnreachable,
    Resources,
    Run,
    Submission,
    SubmissionRefused,
)
from service.cluster.ray_http import Answer, RayHttp

_TIMEOUT_SECONDS = 30.0  # the head looks for an agent for 10 s before it says there is none
_MAX_LOG_BYTES = 16 << 20  # Ray never cuts one, and hands it out whole
_MAX_ENTRIES = 10_000  # of a listing: Ray gives no more


class RayCluster:
    """A Ray head with its dashboard. `grows_to`: with all nodes that its autoscaler may add, which it does not tell."""

    def __init__(
        self,
        url: str,
        *,
        token: SecretStr | None = None,
        grows_to: Resources = NO_RESOURCES,
        timeout_seconds: float = _TIMEOUT_SECONDS,
    ) -> None:
        self._http = RayHttp(url, token=token, timeout_seconds=timeout_seconds)
        self._grows_to = grows_to

    async def session(self) -> str:
        return answers.read(answers.Version, await self._get("/api/version")).session_name

    async def submit(self, submission: Submission) -> None:
        answer = await self._http.request("POST", "/api/jobs/", json=_document(submission))
        if answer.is_success:
            answers.read(answers.Submitted, answer.body)
        elif f"submission_id {submission.submission_id} already exists" in answer.text:
            raise AlreadySubmitted(submission.submission_id)
        elif _is_refusal(answer) or _is_too_large(answer):
            raise SubmissionRefused(answer.gist)
        else:
            raise ClusterUnreachable(answer.gist)

    async def find(self, submission_id: str) -> Run | None:
        answer = await self._http.request("GET", _path(submission_id))
        if _is_unknown(answer, submission_id):
            return None
        return answers.read(answers.Job, answer.successful().body).run(submission_id)

    async def list(self) -> list[Run]:
        jobs = answers.read(answers.Jobs, await self._get("/api/jobs/")).root
        return [job.run(job.submission_id) for job in jobs if job.submission_id is not None]

    async def stop(self, submission_id: str) -> None:
        answer = await self._http.request("POST", f"{_path(submission_id)}/stop")
        if not _is_unknown(answer, submission_id):
            answers.read(answers.Stopped, answer.successful().body)

    async def delete(self, submission_id: str) -> None:
        answer = await self._http.request("DELETE", _path(submission_id))
        if not (_is_unknown(answer, submission_id) or "is in a non-terminal state" in answer.text):
            answers.read(answers.Deleted, answer.successful().body)

    async def logs(self, submission_id: str) -> str:
        answer = await self._http.request("GET", f"{_path(submission_id)}/logs", max_bytes=_MAX_LOG_BYTES)
        if _is_unknown(answer, submission_id):
            return ""
        body = answer.successful().body
        return answers.read_beginning(body) if answer.is_cut else answers.read(answers.Logs, body).logs or ""

    async def capacity(self) -> Capacity:
        nodes = answers.read(answers.Nodes, await self._get("/nodes?view=summary")).data
        used = ray_capacity.reported_use(nodes)
        if used is None:
            groups, actors = await asyncio.gather(
                self._get(_entries("placement_groups", state="CREATED")), self._get(_entries("actors", state="ALIVE"))
            )
            used = ray_capacity.held(answers.read(answers.Groups, groups), answers.read(answers.Actors, actors))
        total = ray_capacity.total_of(nodes).at_least(self._grows_to)
        return Capacity(total=total, free=total.without(used))

    async def probe(self) -> None:
        # The dashboard answers long before, and long after, there is an agent that takes submissions. The agent checks
        # the label selector before it writes anything down, so a wrong one comes back refused from the very end of
        # the path and leaves no trace.
        probe = {"entrypoint": "true", "entrypoint_label_selector": {"cdm-probe": "!!not a value"}}
        answer = await self._http.request("POST", "/api/jobs/", json=probe)
        if not _is_refusal(answer):
            raise ClusterUnreachable(answer.gist)

    async def close(self) -> None:
        await self._http.close()

    async def _get(self, path: str) -> bytes:
        return (await self._http.request("GET", path)).successful().body


def _document(submission: Submission) -> dict[str, Any]:
    return {
        "submission_id": submission.submission_id,
        "entrypoint": submission.entrypoint,
        "metadata": dict(submission.metadata),
        "runtime_env": {"env_vars": dict(submission.environment)},
    }


def _path(submission_id: str) -> str:
    return f"/api/jobs/{quote(submission_id, safe='')}"


def _entries(table: str, *, state: str) -> str:
    equals = "filter_keys=state&filter_predicates=%3D&filter_values="
    return f"/api/v0/{table}?detail=1&limit={_MAX_ENTRIES}&{equals}{state}"


def _is_unknown(answer: Answer, submission_id: str) -> bool:
    """Whether Ray itself, not a proxy before it, says that there is no such submission."""
    return answer.status == 404 and f"{submission_id} does not exist" in answer.text


def _is_refusal(answer: Answer) -> bool:
    """Ray's own 400 has a traceback; that of a proxy proves nothing."""
    relayed = "failed with status code 400" in answer.text
    return relayed or (answer.status == 400 and "Traceback" in answer.text)


def _is_too_large(answer: Answer) -> bool:
    """The agent takes 1 MiB, the dashboard before it 100; what the agent refuses comes as 500."""
    return answer.status == 413 or "Request Entity Too Large" in answer.text
