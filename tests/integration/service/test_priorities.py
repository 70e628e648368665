"""The highest class of priority that the jobs of a project may have, on both databases."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.plane import Served, served_in
from tests.support.problems import code
from tests.support.submissions import SMOKE, trained

FASHION = {"kind": "builtin", "name": "fashion16"}


@pytest.fixture
async def served(tmp_path: Path, database_url: str) -> AsyncIterator[Served]:
    async with served_in(tmp_path, database_url=database_url) as served:
        yield served


async def limit(served: Served, highest: str, project: str = "default") -> None:
    answer = await served.api.patch(f"/v1/projects/{project}", json={"max_priority": highest})
    assert (answer.status_code, answer.json()["max_priority"]) == (200, highest)


async def made(served: Served, path: str, **document: Any) -> dict[str, Any]:
    answer = await served.api.post(path, json=document)
    assert answer.is_success, answer.text
    return dict(answer.json())


async def test_a_project_may_have_every_class_until_an_admin_says_otherwise(served: Served) -> None:
    assert (await served.api.get("/v1/projects/default")).json()["max_priority"] == "high"
    assert (await made(served, "/v1/jobs", spec=SMOKE, priority="high"))["priority"] == "high"


async def test_a_class_above_the_projects_is_refused_wherever_one_is_chosen(served: Served) -> None:
    job_id = await trained(served, (160, 1))
    await limit(served, "normal")

    for method, path, document in (
        ("POST", "/v1/jobs", {"spec": SMOKE}),
        ("POST", "/v1/jobs?dry_run=true", {"spec": SMOKE}),
        ("POST", "/v1/datasets", {"dataset": FASHION}),
        ("POST", f"/v1/jobs/{job_id}/fork", {}),
        ("PATCH", f"/v1/jobs/{job_id}", {}),
    ):
        before = len((await served.api.get("/v1/jobs")).json()["data"])
        refused = await served.api.request(method, path, json={**document, "priority": "high"})

        assert code(refused) == (422, "validation_failed"), path
        [wrong] = refused.json()["errors"]
        assert wrong["pointer"] == "/priority"
        assert "normal at most" in wrong["message"]
        assert "cdm projects set default --max-priority high" in wrong["message"]
        assert len((await served.api.get("/v1/jobs")).json()["data"]) == before
        assert (await served.api.request(method, path, json={**document, "priority": "normal"})).is_success, path
        assert (await served.api.request(method, path, json={**document, "priority": "low"})).is_success, path


async def test_without_a_word_a_job_has_the_usual_class_or_the_highest_there_is(served: Served) -> None:
    job_id = await trained(served, (160, 1))
    for highest, expected in (("low", "low"), ("normal", "normal"), ("high", "normal")):
        await limit(served, highest)

        job = await made(served, "/v1/jobs", spec=SMOKE, evaluations={}, control="edm")
        control = (await served.api.get(f"/v1/jobs/{job['control_job_id']}")).json()
        fork = (await made(served, f"/v1/jobs/{job_id}/fork"))["job"]
        imported = await made(served, "/v1/datasets", dataset=FASHION)

        assert [one["priority"] for one in (job, control, fork, imported)] == [expected] * 4


async def test_a_limit_is_for_what_is_chosen_from_now_on(served: Served) -> None:
    job_id = (await made(served, "/v1/jobs", spec=SMOKE, priority="high"))["id"]
    await limit(served, "low")

    renamed = await served.api.patch(f"/v1/jobs/{job_id}", json={"name": "still urgent"})
    await limit(served, "high")

    assert (renamed.json()["name"], renamed.json()["priority"]) == ("still urgent", "high")
    assert (await made(served, "/v1/jobs", spec=SMOKE, priority="high"))["priority"] == "high"


async def test_a_limit_binds_one_project_only_and_other_fields_leave_it_alone(served: Served) -> None:
    await served.api.post("/v1/projects", json={"name": "vision", "max_priority": "low"})
    changed = await served.api.patch("/v1/projects/vision", json={"max_jobs": 3})

    refused = await served.api.post(
        "/v1/jobs", json={"spec": SMOKE, "priority": "normal"}, headers={"Cdm-Project": "vision"}
    )

    assert changed.json()["max_priority"] == "low"
    assert code(refused) == (422, "validation_failed")
    assert (await made(served, "/v1/jobs", spec=SMOKE, priority="high"))["priority"] == "high"
