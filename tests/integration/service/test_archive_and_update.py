"""What is done to a job's record: archive, restore, delete, update; and what is not possible."""

import asyncio
import threading
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from service.errors import InvalidRequest, JobGone, PreconditionFailed, StateConflict
from service.jobs.listing import Filters
from service.jobs.records import JobRecord
from service.jobs.views import OF_JOB, JobUpdate
from service.web.etags import etag
from tests.support.plane import REQUESTER, Plane, eventually, served_in
from workers.contract.keys import MANIFEST, JobKeys
from workers.contract.presets import PRESETS


async def failed(plane: Plane) -> str:
    job_id = await plane.started()
    await plane.end(job_id, "failed", reason="data_error")
    return job_id


async def again_and_ended(plane: Plane, job_id: str) -> None:
    """By a second attempt."""
    await plane.service.retry(job_id, requester=REQUESTER)
    await plane.settle()
    await plane.end(job_id)


async def test_what_is_refused_says_what_else_could_be_done(tmp_path: Path) -> None:
    async with served_in(tmp_path) as served:
        body = {"spec": PRESETS["smoke"].model_dump(mode="json")}
        job_id = (await served.api.post("/v1/jobs", json=body)).json()["id"]
        refused = await served.api.post(f"/v1/jobs/{job_id}/retry")

        assert refused.status_code == 409
        assert refused.headers["content-type"] == "application/problem+json"
        problem = refused.json()
        assert problem["code"] == "state_conflict"
        assert problem["current_state"] in {"queued", "starting"}
        assert problem["allowed"] == ["cancel", "fork", "pause"]
        assert problem["allowed"] == (await served.api.get(f"/v1/jobs/{job_id}")).json()["allowed"]


async def test_an_archived_job_is_shown_only_among_the_archived(plane: Plane) -> None:
    job_id = await plane.trained()
    usual, archived = Filters(project="default"), Filters(project="default", archived=True)

    await plane.service.archive(job_id, requester=REQUESTER)
    assert await plane.jobs.page(usual, limit=10) == []
    assert [job.id for job in await plane.jobs.page(archived, limit=10)] == [job_id]

    await plane.service.restore(job_id, requester=REQUESTER)
    assert [job.id for job in await plane.jobs.page(usual, limit=10)] == [job_id]
    assert (await plane.events(job_id))[-2:] == ["archived", "restored"]


async def test_a_deleted_job_is_gone_and_what_was_to_be_purged_too(plane: Plane) -> None:
    job_id = await plane.trained()
    keys = JobKeys(job_id)
    plane.worker(job_id).checkpoint(160, at=plane.clock())
    plane.store.put(keys.sample(160), b"png")
    plane.store.put(keys.brought("https://example.org/weights"), b"that it began from")
    plane.store.put(keys.attempt(1).log_chunk("driver", 0), b"log")

    await plane.service.delete(job_id, requester=REQUESTER, purge=("checkpoints", "logs"))
    await plane.parts.purges.tick()

    with pytest.raises(JobGone) as caught:
        await plane.job(job_id)
    assert caught.value.status == 410
    assert plane.store.list(keys.checkpoints) == []
    assert plane.store.list(keys.pieces) == []
    assert plane.store.list(keys.attempt(1).logs) == []
    assert plane.store.list(keys.samples) == [keys.sample(160)], "that was not asked for"
    assert plane.store.get(keys.spec)
    assert await plane.jobs.with_purge_due() == []


async def test_whatever_a_deleted_job_has_measured_and_handed_over_goes_when_that_was_asked_for(plane: Plane) -> None:
    job_id = await failed(plane)
    keys = JobKeys(job_id)
    await again_and_ended(plane, job_id)
    model = f"{keys.export(160, 'ema')}model.safetensors"
    lines = [f"{keys.attempt(number).metrics}0.jsonl" for number in (1, 2)]
    lines += [keys.attempt(number).log_chunk("driver", 0) for number in (1, 2)]
    for key in (model, *lines):
        plane.store.put(key, b"{}")

    await plane.service.delete(job_id, requester=REQUESTER, purge=("exports", "metrics", "logs"))
    await plane.parts.purges.tick()

    assert {*lines, model}.isdisjoint(plane.store.list(keys.root))
    assert await plane.jobs.with_purge_due() == []


async def test_a_job_that_has_not_ended_is_not_deleted(plane: Plane) -> None:
    job_id = await plane.started()

    with pytest.raises(StateConflict) as caught:
        await plane.service.delete(job_id, requester=REQUESTER, purge=())

    assert caught.value.extra == {"current_state": "running", "allowed": ["cancel", "fork", "pause"]}


async def test_a_purge_that_was_cut_off_is_finished_later(plane: Plane) -> None:
    job_id = await plane.trained()
    plane.worker(job_id).checkpoint(160, at=plane.clock())
    keys = JobKeys(job_id)
    weights = f"{keys.checkpoint(160, 1)}weights.safetensors"
    plane.store.put(weights, b"weights")
    await plane.service.delete(job_id, requester=REQUESTER, purge=("checkpoints",))
    plane.store.delete(f"{keys.checkpoint(160, 1)}{MANIFEST}")
    assert plane.store.list(keys.checkpoints) == [weights]

    await plane.parts.purges.tick()

    assert plane.store.list(keys.checkpoints) == []
    assert await plane.jobs.with_purge_due() == []


async def test_a_purge_that_takes_long_holds_up_nothing_and_is_no_other_replicas_business(
    plane: Plane, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id, other_id = await plane.trained(), await plane.trained()
    checkpoint = JobKeys(job_id).checkpoint(160, 1)
    plane.worker(job_id).checkpoint(160, at=plane.clock())
    deleted, may_go_on, delete = list[str](), threading.Event(), plane.store.delete

    def slowly(key: str) -> None:
        deleted.append(key)
        may_go_on.wait(30)
        delete(key)

    async def has_begun() -> bool:
        return bool(deleted)

    monkeypatch.setattr(plane.store, "delete", slowly)
    await plane.service.delete(job_id, requester=REQUESTER, purge=("checkpoints",))
    purging = asyncio.create_task(plane.parts.purges.tick())
    await eventually(has_begun, what="the purge has begun")
    num_begun = len(deleted)

    other = replace(plane.parts.replica, token="another replica")
    await replace(plane.parts.purges, replica=other).tick()
    await plane.service.update(other_id, JobUpdate(name="renamed"), requester=REQUESTER)
    await plane.aftercare.tick()

    assert len(deleted) == num_begun
    assert b"renamed" in plane.store.get(JobKeys(other_id).record)
    may_go_on.set()
    await purging
    assert plane.store.list(checkpoint) == []


async def test_fields_that_are_given_are_changed_and_no_others(plane: Plane) -> None:
    job_id = await plane.submit("old name", labels={"team": "vision"})
    before = await plane.job(job_id)

    changed = await plane.service.update(
        job_id, JobUpdate.model_validate({"name": "new name", "priority": "high"}), requester=REQUESTER
    )

    assert changed == replace(before, name="new name", priority=2, event_sequence=2, record_due=True)
    assert (await plane.events(job_id))[-1] == "updated"


async def test_the_labels_that_the_service_gave_a_job_stay_and_can_be_sent_as_they_are(plane: Plane) -> None:
    """By them it finds the evaluations of a training: without, a comparison would not wait for them."""
    job_id = await plane.submit()
    job, given = await plane.job(job_id), {OF_JOB: "job_1"}
    await plane.jobs.apply(job, replace(job, labels=given), at=plane.clock())

    async def with_labels(**labels: str) -> Mapping[str, str]:
        update = JobUpdate.model_validate({"labels": labels})
        return (await plane.service.update(job_id, update, requester=REQUESTER)).labels

    assert await with_labels() == given
    assert await with_labels(team="vision") == given | {"team": "vision"}
    assert await with_labels(**given, team="audio") == given | {"team": "audio"}
    for wrong in ({OF_JOB: "job_2"}, {"cdm.another": "1"}):
        with pytest.raises(InvalidRequest) as caught:
            await with_labels(**wrong)
        assert [problem.pointer for problem in caught.value.problems] == [f"/labels/{next(iter(wrong))}"]
    assert (await plane.job(job_id)).labels == given | {"team": "audio"}


async def test_of_two_who_change_what_they_read_the_second_is_told(plane: Plane) -> None:
    job_id = await plane.submit()
    tag = etag((await plane.job(job_id)).event_sequence)

    await plane.service.update(job_id, JobUpdate(name="first"), requester=replace(REQUESTER, if_match=tag))
    with pytest.raises(PreconditionFailed):
        await plane.service.update(job_id, JobUpdate(name="second"), requester=replace(REQUESTER, if_match=tag))

    assert (await plane.job(job_id)).name == "first"


async def test_a_change_is_not_made_to_a_job_that_moved_while_it_was_being_written(
    plane: Plane, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = await plane.submit()
    seen = replace(REQUESTER, if_match=etag((await plane.job(job_id)).event_sequence))
    get = plane.service.store.get

    async def overtaken(job_id: str, *, project: str) -> JobRecord:
        monkeypatch.undo()
        job = await get(job_id, project=project)
        await plane.service.update(job_id, JobUpdate(name="by another"), requester=REQUESTER)
        return job

    monkeypatch.setattr(plane.service.store, "get", overtaken)
    with pytest.raises(PreconditionFailed):
        await plane.service.pause(job_id, requester=seen)

    assert (await plane.job(job_id)).state == "queued"


async def test_a_verb_and_a_removal_that_are_meant_for_another_state_are_refused(plane: Plane) -> None:
    job_id = await plane.submit()
    seen = replace(REQUESTER, if_match=etag((await plane.job(job_id)).event_sequence))
    await plane.service.update(job_id, JobUpdate(name="by another"), requester=REQUESTER)

    for change in (plane.service.pause, plane.service.resume, partial(plane.service.delete, purge=())):
        with pytest.raises(PreconditionFailed):
            await change(job_id, requester=seen)

    assert (await plane.job(job_id)).state == "queued"
    now = replace(REQUESTER, if_match=etag((await plane.job(job_id)).event_sequence))
    assert (await plane.service.pause(job_id, requester=now)).state == "paused"


async def test_a_change_that_changes_nothing_is_no_event(plane: Plane) -> None:
    job_id = await plane.trained()
    name = JobUpdate(name="name")
    await plane.service.archive(job_id, requester=REQUESTER)
    await plane.service.update(job_id, name, requester=REQUESTER)
    await plane.aftercare.tick()
    events = await plane.events(job_id)

    await plane.service.archive(job_id, requester=REQUESTER)
    await plane.service.update(job_id, name, requester=REQUESTER)

    assert await plane.events(job_id) == events
