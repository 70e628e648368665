"""Who has had how much of the cluster, on both databases."""

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from service.cluster import MemoryCluster
from service.cluster.base import RunStatus
from service.errors import InvalidRequest
from service.jobs.views import JobCreate
from tests.support.plane import REQUESTER, Plane, Script, Served, plane_in, served_in, until_run
from tests.support.problems import code
from workers.contract.presets import PRESETS

HOURS = 3600.0
GPUS = {**PRESETS["smoke"].model_dump(mode="json"), "compute": {"workers": 4, "accelerator": "gpu"}}


@pytest.fixture
async def plane(tmp_path: Path, database_url: str, script: Script) -> AsyncIterator[Plane]:
    async with plane_in(tmp_path, cluster=MemoryCluster(script), database_url=database_url) as plane:
        yield plane


@pytest.fixture
async def served(tmp_path: Path, database_url: str) -> AsyncIterator[Served]:
    async with served_in(tmp_path, database_url=database_url) as served:
        yield served


async def used(plane: Plane, project: str | None = "default", **when: object) -> dict[str, tuple[int, float]]:
    """Jobs and hours of workers, by who submitted them and on what."""
    found = await plane.service.usage(project, **{"since": None, "until": None, **when})
    assert found.since < found.until
    return {f"{one.created_by_name} {one.accelerator}": (one.jobs, one.worker_seconds / 3600) for one in found.data}


async def started(plane: Plane, *, owner: str = "Tess", project: str = "default", **fields: object) -> str:
    plane.clock.advance(1)
    request = JobCreate.model_validate({"spec": PRESETS["smoke"], **fields})
    requester = replace(REQUESTER, owner=owner.lower(), owner_name=owner, project=project)
    job_id = (await plane.submissions.submit(request, requester=requester)).id
    await plane.settle()
    return job_id


async def test_workers_count_from_the_submission_of_each_attempt_to_its_end(plane: Plane, script: Script) -> None:
    assert await used(plane) == {}
    job_id = await started(plane)  # of two workers
    plane.clock.advance(HOURS)
    script.exit(f"{job_id}-a1", 137)
    await until_run(plane, f"{job_id}-a1", RunStatus.FAILED)
    await plane.settle()
    again = (await plane.job(job_id)).attempt
    plane.clock.advance(HOURS)
    assert await used(plane) == {"Tess cpu": (1, pytest.approx(2 * 2, abs=0.1))}, "what runs counts, too"

    await plane.end(job_id)
    plane.clock.advance(HOURS)
    await plane.service.delete(job_id, requester=REQUESTER, purge=())

    assert again == 2
    assert await used(plane) == {"Tess cpu": (1, pytest.approx(2 * 2, abs=0.1))}


async def test_only_the_part_in_the_time_that_is_asked_for_counts(plane: Plane) -> None:
    job_id, begun = await started(plane), plane.clock()
    plane.clock.advance(4 * HOURS)
    await plane.end(job_id)
    hour = timedelta(hours=1)

    assert await used(plane, since=begun + hour, until=begun + 3 * hour) == {"Tess cpu": (1, pytest.approx(2 * 2))}
    assert await used(plane, until=begun + hour) == {"Tess cpu": (1, pytest.approx(2 * 1, abs=0.01))}
    assert await used(plane, since=begun + 5 * hour, until=begun + 6 * hour) == {}
    assert await used(plane, until=begun - hour) == {}
    with pytest.raises(InvalidRequest) as caught:
        await used(plane, since=begun, until=begun)
    assert [problem.pointer for problem in caught.value.problems] == ["/query/since"]


async def test_gpus_come_first_and_who_had_most_of_them(plane: Plane) -> None:
    for owner, spec in (("Ann", PRESETS["smoke"]), ("Ben", GPUS), ("Cid", GPUS), ("Cid", GPUS)):
        await started(plane, owner=owner, spec=spec)
    await started(plane, owner="Dan", project="vision")
    plane.clock.advance(HOURS)

    mine = await used(plane)

    assert list(mine) == ["Cid gpu", "Ben gpu", "Ann cpu"]
    assert mine["Cid gpu"] == (2, pytest.approx(2 * 4, abs=0.1))
    assert list(await used(plane, "vision")) == ["Dan cpu"]
    assert set(await used(plane, None)) == {*mine, "Dan cpu"}


async def test_of_all_projects_only_admins_learn(served: Served) -> None:
    document = {"name": "eve", "scopes": ["jobs:read"]}
    key = (await served.api.post("/v1/api-keys", json=document)).json()["key"]
    headers = {"Authorization": f"Bearer {key}"}

    own = await served.api.get("/v1/usage", params={"since": "2026-01-01T00:00:00Z"}, headers=headers)
    all_of_them = await served.api.get("/v1/usage", params={"all_projects": True}, headers=headers)

    assert (own.status_code, own.json()["data"]) == (200, [])
    assert code(all_of_them) == (403, "forbidden")
    assert (await served.api.get("/v1/usage", params={"all_projects": True})).status_code == 200
