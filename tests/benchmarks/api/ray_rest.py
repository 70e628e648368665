"""The same of Ray's own REST interface of jobs: submit `true`, get, list."""

import asyncio
import itertools
import json
import random
import time

from tests.benchmarks.api.connection import Connection, request
from tests.benchmarks.api.load import Figures, measured, told
from tests.benchmarks.api.operations import CREATE, GET, LIST_LONG, Make
from tests.benchmarks.api.serving import Served
from tests.support.ray_head import RayHead, ray_head

_OVER = {"SUCCEEDED", "FAILED", "STOPPED"}
_PATIENCE_SECONDS = 900.0


def ray_figures(*, seconds: float, num_jobs: int) -> list[Figures]:
    """Of a head on all cores: what serves the interface, runs the jobs and keeps their table."""
    with ray_head(num_cpus=4) as head:
        return asyncio.run(_figures(head, seconds=seconds, num_jobs=num_jobs))


async def _figures(head: RayHead, *, seconds: float, num_jobs: int) -> list[Figures]:
    served, make, found = Served(head.url, head.pid), _submissions(head), []
    job_ids: list[str] = []
    for connections in (1, 8):
        many = num_jobs // 2 - connections
        found.append(told(await measured(CREATE, served, make, connections=connections, at_most=many)))
        job_ids = await _when_all_are_over(head)
    chance = random.Random(4)  # noqa: S311

    def get() -> bytes:
        return request("GET", f"/api/jobs/{chance.choice(job_ids)}", key=head.token)

    def everything() -> bytes:
        return request("GET", "/api/jobs/", key=head.token)

    for operation, read, connections in (
        (GET, get, 1),
        (GET, get, 8),
        (LIST_LONG, everything, 1),
        (LIST_LONG, everything, 4),
    ):
        found.append(told(await measured(operation, served, read, connections=connections, seconds=seconds)))
    return found


def _submissions(head: RayHead) -> Make:
    numbers = itertools.count()

    def make() -> bytes:
        body = {"entrypoint": "true", "submission_id": f"benchmark-{next(numbers)}"}
        return request("POST", "/api/jobs/", key=head.token, body=body)

    return make


async def _when_all_are_over(head: RayHead) -> list[str]:
    """The ids of all jobs, once nothing runs any more."""
    connection = await Connection.open(head.url)
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while time.monotonic() < deadline:
        jobs = json.loads(await connection.send(request("GET", "/api/jobs/", key=head.token)))
        if all(job["status"] in _OVER for job in jobs):
            await connection.close()
            return [job["submission_id"] for job in jobs]
        await asyncio.sleep(1.0)
    raise TimeoutError("Ray's jobs do not end")
