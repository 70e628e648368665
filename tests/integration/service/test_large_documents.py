"""What is written down at a submission is bounded: it is kept for long, and shown in every list."""

from pathlib import Path

import pytest
from sqlalchemy import func, select

from service.database import open_database
from service.database.tables import idempotency_keys
from tests.support.plane import served_in, settings_in
from tests.support.problems import code
from tests.support.submissions import SMOKE, drawing, refused, trained


@pytest.mark.parametrize("dry_run", ["false", "true"])
async def test_a_long_document_is_refused_with_what_would_mend_it(dry_run: str, tmp_path: Path) -> None:
    async with served_in(tmp_path) as served:
        document = drawing("sample", await trained(served, (100, 1))) | {"classes": [7] * 50_000}

        reasons = await refused(served, document, dry_run=dry_run)

    assert "may have 65536: shorten its longest list" in reasons["/spec"]


@pytest.mark.parametrize("dry_run", ["false", "true"])
async def test_evaluations_count_as_a_part_of_the_document(dry_run: str, tmp_path: Path) -> None:
    async with served_in(tmp_path) as served:
        answer = await served.api.post(
            "/v1/jobs", json={"spec": SMOKE, "evaluations": {"classes": [7] * 32_400}}, params={"dry_run": dry_run}
        )

        assert code(answer) == (422, "validation_failed")
        (error,) = answer.json()["errors"]
        assert error["pointer"] == "/evaluations"
        assert error["message"].endswith("and may have 65536: shorten its longest list")
        assert (await served.api.get("/v1/jobs")).json()["data"] == []


async def test_so_do_those_of_a_fork(tmp_path: Path) -> None:
    async with served_in(tmp_path) as served:
        parent = await trained(served, (100, 1))
        answer = await served.api.post(f"/v1/jobs/{parent}/fork", json={"evaluations": {"classes": [7] * 33_000}})

    assert code(answer) == (422, "validation_failed")
    assert [error["pointer"] for error in answer.json()["errors"]] == ["/evaluations"]


async def test_a_plan_under_a_key_is_made_again_and_not_kept(tmp_path: Path) -> None:
    async with served_in(tmp_path) as served:
        plan = {"json": {"spec": SMOKE}, "headers": {"Idempotency-Key": "plan"}}
        plans = [await served.api.post("/v1/jobs?dry_run=true", **plan) for _ in range(2)]

    assert [plan.status_code for plan in plans] == [200, 200]
    assert "Idempotent-Replayed" not in plans[1].headers
    async with open_database(settings_in(tmp_path).database_url) as database, database.reading() as connection:
        assert await connection.scalar(select(func.count()).select_from(idempotency_keys)) == 0
