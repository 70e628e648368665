"""Who submitted which job, on both databases: said of each, a filter of lists, and all projects for admins alone."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.support.plane import Served, eventually, served_in
from tests.support.problems import code
from tests.support.submissions import AT, SMOKE
from tests.support.worker import Worker


@dataclass(frozen=True)
class User:
    """Someone with a key of their own."""

    api: httpx2.AsyncClient
    id: str
    headers: dict[str, str]

    async def submit(self, **fields: Any) -> str:
        answer = await self.api.post("/v1/jobs", json={"spec": SMOKE, **fields}, headers=self.headers)
        assert answer.status_code == 201, answer.text
        return str(answer.json()["id"])

    async def listed(self, path: str = "/v1/jobs", **query: Any) -> list[dict[str, Any]]:
        answer = await self.api.get(path, params=query, headers=self.headers)
        assert answer.status_code == 200, answer.text
        return list(answer.json()["data"])


@pytest.fixture
async def served(tmp_path: Path, database_url: str) -> AsyncIterator[Served]:
    async with served_in(tmp_path, database_url=database_url, max_active_jobs=1) as served:
        yield served


async def user(
    served: Served, name: str, *, project: str = "default", scopes: Sequence[str] = ("jobs:read", "jobs:write")
) -> User:
    if project != "default":
        assert (await served.api.post("/v1/projects", json={"name": project})).status_code == 201
    document = {"name": name, "project": project, "scopes": scopes}
    key = (await served.api.post("/v1/api-keys", json=document)).json()
    return User(served.api, key["id"], {"Authorization": f"Bearer {key['key']}"})


async def whose(served: Served, job_id: str) -> tuple[str | None, str | None]:
    job = (await served.api.get(f"/v1/jobs/{job_id}")).json()
    return job["created_by"], job["created_by_name"]


async def test_a_job_says_who_submitted_it_as_the_audit_does_and_a_fork_who_forked(served: Served) -> None:
    alice = await user(served, "alice")
    theirs = await alice.submit()
    Worker(served.store, theirs).checkpoint(160, at=AT)
    fork = (await served.api.post(f"/v1/jobs/{theirs}/fork", json={})).json()["job"]

    assert await whose(served, theirs) == (alice.id, "alice")
    assert (fork["created_by"], fork["created_by_name"]) == ("bootstrap", None)
    rows = (await served.api.get("/v1/audit", params={"target": theirs})).json()["data"]
    assert [row["actor"] for row in rows] == [alice.id]


async def test_a_control_is_of_who_asked_for_it(served: Served) -> None:
    alice = await user(served, "alice")
    job = (await served.api.get(f"/v1/jobs/{await alice.submit(evaluations={}, control='edm')}")).json()

    assert await whose(served, job["control_job_id"]) == (alice.id, "alice")


async def test_who_else_steers_a_job_does_not_make_it_theirs(served: Served) -> None:
    alice = await user(served, "alice")
    job_id = await alice.submit()

    assert (await served.api.post(f"/v1/jobs/{job_id}/cancel")).status_code == 200
    assert (await served.api.patch(f"/v1/jobs/{job_id}", json={"name": "mine"})).status_code == 200

    assert await whose(served, job_id) == (alice.id, "alice")


async def test_a_list_is_narrowed_down_to_ones_own_jobs_or_to_somebodys(served: Served) -> None:
    alice, bob = await user(served, "alice"), await user(served, "bob")
    hers, his = await alice.submit(), await bob.submit()

    assert [job["id"] for job in await alice.listed()] == [his, hers]
    assert [job["id"] for job in await alice.listed(created_by="me")] == [hers]
    assert [job["id"] for job in await alice.listed(created_by=bob.id)] == [his]
    assert await alice.listed(created_by="alice") == [], "a name is anybody's"
    assert await alice.listed(created_by="") == []


async def test_admins_see_the_jobs_and_the_queue_of_all_projects(served: Served) -> None:
    alice, bob = await user(served, "alice"), await user(served, "bob", project="vision")
    operator = await user(served, "operator", project="operation", scopes=["admin"])
    running, waiting, neighbour = await alice.submit(), await alice.submit(), await bob.submit()

    async def all_wait() -> bool:
        return all(each["message"] for each in await operator.listed("/v1/queue", all_projects=True))

    await eventually(all_wait, what="it is said why they wait")
    jobs = await operator.listed(all_projects=True)
    queue = await operator.listed("/v1/queue", all_projects=True)

    assert [(job["id"], job["project"]) for job in jobs] == [
        (neighbour, "vision"),
        (waiting, "default"),
        (running, "default"),
    ]
    assert [(each["queue_position"], each["id"], each["project"], each["created_by_name"]) for each in queue] == [
        (1, waiting, "default", "alice"),
        (2, neighbour, "vision", "bob"),
    ]
    assert [job["id"] for job in await operator.listed(all_projects=True, created_by=bob.id)] == [neighbour]
    assert await operator.listed() == await operator.listed("/v1/queue") == []
    assert [(each["queue_position"], each["id"]) for each in await bob.listed("/v1/queue")] == [(2, neighbour)]


@pytest.mark.parametrize("path", ["/v1/jobs", "/v1/queue"])
async def test_others_are_refused_the_jobs_of_all_projects(served: Served, path: str) -> None:
    bob = await user(served, "bob", project="vision")

    refused = await served.api.get(path, params={"all_projects": True}, headers=bob.headers)

    assert code(refused) == (403, "forbidden")
    assert refused.json()["required_scope"] == "admin"
    assert await bob.listed(path, all_projects=False) == []
