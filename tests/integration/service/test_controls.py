"""Trainings with a control: two jobs or neither, and one comparison once both are evaluated."""

import asyncio
from typing import Any

import pytest

from service.identifiers import new_id
from service.jobs.lifecycle import JobState
from service.jobs.listing import Filters
from service.jobs.records import JobRecord
from service.jobs.views import COMPARES, CONTROL_OF, JobCreate
from tests.support.plane import REQUESTER, Plane, Served
from tests.support.submissions import SMOKE
from workers.contract.comparing import CompareSpec
from workers.contract.merging import differences
from workers.contract.presets import PRESETS
from workers.contract.spec import TrainSpec

PAIRED: dict[str, Any] = {"evaluations": {"num_images": 100, "every_images": 1000}, "control": "edm"}


async def tick(plane: Plane) -> None:
    plane.clock.advance(1)
    await plane.followups.tick()


async def paired(plane: Plane, **fields: Any) -> tuple[JobRecord, JobRecord]:
    job = await plane.job(await plane.submit(**PAIRED, **fields))
    return job, await plane.job(job.control_job_id or "")


async def of_kind(plane: Plane, kind: str) -> list[JobRecord]:
    found = await plane.jobs.page(Filters(project="default", kind=kind), limit=10)
    return found[::-1]


async def trained(plane: Plane, job: JobRecord) -> None:
    await plane.settle()
    plane.worker(job.id).checkpoint(320, at=plane.clock())
    await end(plane, job)


async def end(plane: Plane, job: JobRecord, status: str = "succeeded") -> None:
    await plane.settle()
    await plane.end(job.id, status, reason=None if status == "succeeded" else "data_error")


async def test_the_control_is_the_same_training_without_its_consistency_term(plane: Plane) -> None:
    job, control = await paired(plane, name="faces", labels={"team": "a"}, priority="high", max_runtime_seconds=60)

    specs = [TrainSpec.model_validate_json(each.spec).model_dump(mode="json") for each in (job, control)]
    assert [place for place, _, _ in differences(*specs)] == [("objective", "consistency")]
    assert specs[1]["objective"]["consistency"] is None
    assert (control.name, control.labels) == ("faces control", {"team": "a", CONTROL_OF: job.id})
    assert (control.priority, control.max_runtime_seconds, control.owner) == (2, 60, "tester")
    assert (control.control_job_id, control.comparison_due) == (None, False)
    assert await plane.events(control.id) == ["created"]


async def test_one_that_dies_before_it_commits_has_made_neither(plane: Plane, monkeypatch: pytest.MonkeyPatch) -> None:
    async def die(*_: Any, **__: Any) -> None:
        raise LookupError("died")

    monkeypatch.setattr("service.jobs.submission.record_audit", die)
    with pytest.raises(LookupError):
        await plane.submit(**PAIRED)

    assert await plane.jobs.queue(limit=10) == []


async def test_what_a_crash_left_in_the_store_is_of_the_same_pair_when_the_request_is_repeated(
    plane: Plane, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def die(*_: Any, **__: Any) -> None:
        raise LookupError("died")

    request = JobCreate.model_validate({"spec": PRESETS["smoke"], **PAIRED})
    reserved = new_id("job", at=plane.clock())
    with monkeypatch.context() as broken:
        broken.setattr("service.jobs.submission.record_audit", die)
        with pytest.raises(LookupError):
            await plane.submissions.submit(request, requester=REQUESTER, job_id=reserved)
    plane.clock.advance(5)

    job = await plane.submissions.submit(request, requester=REQUESTER, job_id=reserved)

    assert sorted(await plane.objects.job_ids()) == sorted([reserved, job.control_job_id or ""])


async def test_they_are_compared_once_when_both_have_all_their_evaluations(plane: Plane) -> None:
    job, control = await paired(plane, name="faces")

    await trained(plane, job)
    await tick(plane)
    await tick(plane)
    assert await of_kind(plane, "compare") == []  # the control has not ended
    await trained(plane, control)
    await tick(plane)
    await tick(plane)
    assert await of_kind(plane, "compare") == []  # and now, neither evaluation has
    first, second = await of_kind(plane, "evaluate")
    await end(plane, first)
    await tick(plane)
    assert await of_kind(plane, "compare") == []
    await end(plane, second, "failed")
    await asyncio.gather(*(tick(plane) for _ in range(3)))

    (found,) = await of_kind(plane, "compare")
    assert CompareSpec.model_validate_json(found.spec) == CompareSpec(
        kind="compare", job_id=job.id, control_job_id=control.id
    )
    assert (found.name, found.labels, found.priority) == ("faces beside control", {COMPARES: job.id}, 0)
    assert (found.owner, found.owner_name) == ("tester", "Tess")
    assert not (await plane.job(job.id)).comparison_due


async def test_one_that_dies_before_it_writes_a_comparison_down_submits_no_second(
    plane: Plane, monkeypatch: pytest.MonkeyPatch
) -> None:
    job, control = await paired(plane)
    for each in (job, control):
        await trained(plane, each)
    await tick(plane)
    for evaluation in await of_kind(plane, "evaluate"):
        await end(plane, evaluation)

    async def die(*_: Any) -> None:
        raise LookupError("died")

    with monkeypatch.context() as broken:
        broken.setattr("service.jobs.store.JobStore.comparison_done", die)
        await tick(plane)
    assert (await plane.job(job.id)).comparison_due
    await tick(plane)

    assert len(await of_kind(plane, "compare")) == 1
    assert not (await plane.job(job.id)).comparison_due


async def test_a_pair_of_which_one_failed_is_compared_when_that_has_been_retried(plane: Plane) -> None:
    job, control = await paired(plane)
    await trained(plane, job)
    await end(plane, control, "failed")
    assert (await plane.job(control.id)).state is JobState.FAILED
    await tick(plane)
    assert await plane.jobs.with_comparison_due() == [], "nobody looks at the two meanwhile"

    await plane.service.retry(control.id, requester=REQUESTER)
    await plane.settle()
    plane.worker(control.id, 2).checkpoint(320, at=plane.clock())
    await plane.end(control.id)
    await tick(plane)
    for evaluation in await of_kind(plane, "evaluate"):
        await end(plane, evaluation)
    await tick(plane)

    assert len(await of_kind(plane, "compare")) == 1


async def test_a_pair_is_looked_at_when_both_have_succeeded_and_no_sooner(plane: Plane) -> None:
    job, control = await paired(plane)
    await trained(plane, control)
    await plane.cancel(job.id)
    await plane.settle()
    await plane.end(job.id, "stopped")
    assert (await plane.job(job.id)).state is JobState.CANCELLED
    assert await plane.jobs.with_comparison_due() == []

    await plane.service.retry(job.id, requester=REQUESTER)
    await plane.settle()
    assert await plane.jobs.with_comparison_due() == []
    await plane.end(job.id)

    assert [due.id for due in await plane.jobs.with_comparison_due()] == [job.id]


async def test_one_whose_control_was_deleted_is_not_waited_for(plane: Plane) -> None:
    job, control = await paired(plane)
    await trained(plane, job)
    await plane.cancel(control.id)
    await plane.settle()
    await plane.service.delete(control.id, requester=REQUESTER, purge=())

    await tick(plane)

    assert not (await plane.job(job.id)).comparison_due
    assert await plane.jobs.with_comparison_due() == []
    assert await of_kind(plane, "compare") == []


async def test_over_rest_the_control_is_named_and_a_repeated_request_makes_no_second(served: Served) -> None:
    body = {"spec": SMOKE, **PAIRED}
    headers = {"Idempotency-Key": "once"}

    first, again = [await served.api.post("/v1/jobs", json=body, headers=headers) for _ in range(2)]

    assert (first.status_code, again.json()) == (201, first.json())
    listed = (await served.api.get("/v1/jobs")).json()["data"]
    assert {job["id"] for job in listed} == {first.json()["id"], first.json()["control_job_id"]}
    plan = (await served.api.post("/v1/jobs?dry_run=true", json=body)).json()
    assert any("second training" in warning for warning in plan["warnings"])


@pytest.mark.parametrize(
    ("fields", "pointer"),
    [
        ({"evaluations": None}, "/evaluations"),
        ({"spec": {**SMOKE, "objective": {**SMOKE["objective"], "consistency": None}}}, "/control"),
        ({"spec": {"kind": "sample", "checkpoint": {"job_id": "job_01ARZ3NDEKTSV4RRFFQ69G5FAV"}}}, "/control"),
        ({"control": "ddpm"}, "/control"),
    ],
)
async def test_what_cannot_have_a_control_is_refused(served: Served, fields: dict[str, Any], pointer: str) -> None:
    answer = await served.api.post("/v1/jobs", json={"spec": SMOKE, **PAIRED, **fields})

    assert answer.status_code == 422
    assert pointer in [problem["pointer"] for problem in answer.json()["errors"]]
    assert (await served.api.get("/v1/jobs")).json()["data"] == []
