"""A database lost entirely, and built again from the object store, while drivers go on."""

import json
import threading
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from service.cluster.base import RunStatus
from service.errors import JobGone, JobNotFound
from service.jobs.listing import Filters
from service.jobs.rebuild import read_record, rebuild, record_of
from service.jobs.views import JobCreate
from tests.support.lost_database import Site
from tests.support.plane import DEADLINE_SECONDS, REQUESTER, Plane, Script, plane_in, until_run
from workers.contract.keys import JobKeys
from workers.contract.presets import PRESETS
from workers.storage.memory import MemoryStore


@pytest.fixture
def site(tmp_path: Path, script: Script) -> Site:
    return Site(tmp_path, script)


class Together(MemoryStore):
    """Answers for a record when those of so many jobs are asked for."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.asked = threading.Barrier(number, timeout=DEADLINE_SECONDS)

    def get(self, key: str) -> bytes:
        if key.endswith("/job.json"):
            self.asked.wait()
        return super().get(key)


async def test_several_jobs_are_asked_for_at_a_time(site: Site, tmp_path: Path) -> None:
    """Or a store that takes its time would keep the service from starting for hours."""
    async with site.plane() as plane:
        job_ids = [await plane.submit() for _ in range(8)]
        await plane.aftercare.tick()
    together = Together(len(job_ids))
    for key in site.store.list(""):
        together.put(key, site.store.get(key))

    async with plane_in(tmp_path / "new", cluster=site.cluster, store=together, clock=site.clock) as plane:
        assert await rebuild(plane.jobs, plane.objects, now=plane.clock()) == (len(job_ids), [])
        found = await plane.jobs.page(Filters(project="default"), limit=10)

    assert {job.id for job in found} == set(job_ids)


async def succeed(plane: Plane, script: Script, job_id: str) -> None:
    plane.worker(job_id).outcome("succeeded", at=plane.clock())
    script.exit(f"{job_id}-a1", 0)
    await until_run(plane, f"{job_id}-a1", RunStatus.SUCCEEDED)
    await plane.settle()


async def test_a_job_goes_on_while_its_database_is_lost_and_is_not_run_twice(site: Site, script: Script) -> None:
    async with site.plane() as plane:
        job_id = await plane.started(name="a name", labels={"team": "vision"}, priority="high")
        await plane.aftercare.tick()
        before = await plane.job(job_id)
    async with site.rebuilt() as plane:
        job = await plane.job(job_id)
        assert job == replace(before, event_sequence=before.event_sequence + 1, record_due=True)
        assert (job.owner, job.owner_name) == ("tester", "Tess")
        assert len(await plane.jobs.attempts(job_id)) == 1
        await plane.settle()
        assert ((await plane.job(job_id)).state, (await plane.job(job_id)).attempt) == ("running", 1)

        await succeed(plane, script, job_id)

        assert (await plane.job(job_id)).state == "succeeded"
        assert site.cluster.submission_ids == [f"{job_id}-a1"]


async def test_a_job_that_was_acknowledged_and_not_copied_since_is_there_again(site: Site) -> None:
    async with site.plane() as plane:
        job_id = await plane.submit()
    async with site.rebuilt() as plane:
        assert (await plane.job(job_id)).state == "queued"
        await plane.settle()
        assert site.cluster.submission_ids == [f"{job_id}-a1"]


@pytest.mark.parametrize("pair", [{}, {"control": "edm", "evaluations": {}}])
async def test_a_job_that_was_refused_at_the_last_moment_does_not_come_into_being(
    site: Site, pair: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its source was deleted, say, or the disk was full: whoever submitted it was told that there is none."""

    async def refuse(*_: object) -> None:
        raise JobGone("its source has just been deleted")

    monkeypatch.setattr("service.jobs.submission.record_audit", refuse)
    async with site.plane() as plane:
        request = JobCreate.model_validate({"spec": PRESETS["smoke"], **pair})
        with pytest.raises(JobGone):
            await plane.submissions.submit(request, requester=REQUESTER)
    async with site.rebuilt() as plane:
        assert await plane.jobs.page(Filters(project="default"), limit=10) == []


@pytest.mark.parametrize("claimed", [True, False])
async def test_an_attempt_that_the_copy_does_not_have_is_found_and_not_run_twice(
    site: Site, script: Script, claimed: bool
) -> None:
    """The copy is from before the attempt. Whether or not its driver has begun, it is the one that goes on."""
    async with site.plane() as plane:
        job_id = await plane.started(training=False)
        if claimed:
            plane.worker(job_id).claim(at=plane.clock())
    async with site.rebuilt() as plane:
        job = await plane.job(job_id)
        assert (job.state, job.attempt) == (("starting", 1) if claimed else ("queued", 0))
        await plane.settle()
        plane.worker(job_id).progress(at=plane.clock())
        await plane.settle()
        assert ((await plane.job(job_id)).state, (await plane.job(job_id)).attempt) == ("running", 1)

        await succeed(plane, script, job_id)

        assert (await plane.job(job_id)).state == "succeeded"
        assert site.cluster.submission_ids == [f"{job_id}-a1"]


async def test_attempts_before_the_one_that_the_copy_does_not_have_are_over(site: Site) -> None:
    """One that the copy has as open ended at an unknown time; one that had ended keeps its time."""
    async with site.plane() as plane:
        job_id = await plane.started()
        await plane.end(job_id, "stopped")
        await plane.aftercare.tick()
        first, second = await plane.jobs.attempts(job_id)
        assert first.ended_at
        assert second.ended_at is None
        plane.worker(job_id, 3).claim(at=plane.clock())
    site.clock.advance(600)
    async with site.rebuilt() as plane:
        found = await plane.jobs.attempts(job_id)

        assert [one.ended_at for one in found] == [first.ended_at, plane.clock(), None]
        assert (await plane.job(job_id)).attempt == 3


async def being_paused(plane: Plane, job_id: str) -> None:
    await plane.service.pause(job_id, requester=REQUESTER)


async def failed(plane: Plane, job_id: str) -> None:
    await plane.end(job_id, "failed", reason="data_error")


@pytest.mark.parametrize("become", [being_paused, failed])
async def test_what_the_copy_says_of_an_earlier_attempt_is_not_said_of_the_one_that_runs(
    site: Site, become: Callable[[Plane, str], Awaitable[None]]
) -> None:
    """Its user has resumed it since, or tried it again."""
    async with site.plane() as plane:
        job_id = await plane.started()
        await become(plane, job_id)
        await plane.aftercare.tick()
        plane.worker(job_id, 2).claim(at=plane.clock())
    async with site.rebuilt() as plane:
        job = await plane.job(job_id)

        assert (job.state, job.attempt, job.reason) == ("starting", 2, "rebuilt")
        assert (job.intent, job.stop_by, job.ended_at, job.heard_at) == (None, None, None, None)


async def test_an_attempt_that_ended_while_the_database_was_lost_is_not_run_again(site: Site) -> None:
    async with site.plane() as plane:
        job_id = await plane.started()
        plane.worker(job_id).claim(at=plane.clock())
        plane.worker(job_id).outcome("succeeded", at=plane.clock())
    async with site.rebuilt() as plane:
        await plane.settle()

        assert (await plane.job(job_id)).state == "succeeded"


async def test_an_attempt_that_is_gone_without_a_trace_is_followed_by_another(site: Site) -> None:
    async with site.plane() as plane:
        job_id = await plane.started(training=False)
        plane.worker(job_id).claim(at=plane.clock())
    await site.cluster.forget()
    async with site.rebuilt() as plane:
        plane.clock.advance(61)
        await plane.settle()

        job = await plane.job(job_id)
        assert (job.state, job.attempt, job.reason) == ("starting", 2, "head_restarted")


async def test_a_number_that_the_service_took_itself_is_no_attempt(site: Site, script: Script) -> None:
    """The copy is from before the cancellation that revoked the only attempt."""
    async with site.plane() as plane:
        job_id = await plane.submit()
        await plane.parts.scheduler.tick()
        await plane.cancel(job_id)
        await plane.settle()
        assert await plane.objects.newest_claim(job_id) == 1
    async with site.rebuilt() as plane:
        assert ((await plane.job(job_id)).state, (await plane.job(job_id)).attempt) == ("queued", 0)
        await plane.settle()
        assert (await plane.job(job_id)).attempt == 2


async def test_what_had_ended_is_as_it_was(site: Site, script: Script) -> None:
    async with site.plane() as plane:
        done = await plane.started()
        await succeed(plane, script, done)
        paused = await plane.submit()
        await plane.service.pause(paused, requester=REQUESTER)
        archived = await plane.submit()
        await plane.cancel(archived)
        await plane.service.archive(archived, requester=REQUESTER)
        await plane.aftercare.tick()
    async with site.rebuilt() as plane:
        await plane.settle()
        states = [(await plane.job(job_id)).state for job_id in (done, paused, archived)]
        assert states == ["succeeded", "paused", "cancelled"]
        assert (await plane.job(archived)).archived_at
        assert site.cluster.submission_ids == [f"{done}-a1"]


async def test_a_deleted_job_stays_deleted(site: Site) -> None:
    async with site.plane() as plane:
        job_id = await plane.submit()
        await plane.cancel(job_id)
        await plane.service.delete(job_id, requester=REQUESTER, purge=())
        await plane.aftercare.tick()
    async with site.rebuilt() as plane:
        with pytest.raises(JobGone):
            await plane.job(job_id)
        assert await plane.jobs.page(Filters(project="default"), limit=10) == []


async def test_the_numbers_of_events_go_on_where_they_were(site: Site) -> None:
    async with site.plane() as plane:
        job_id = await plane.started()
        await plane.aftercare.tick()
        last = (await plane.job(job_id)).event_sequence
    async with site.rebuilt() as plane:
        await plane.end(job_id)
        events = await plane.jobs.events(job_id, after=0, limit=10)

    assert [(event.sequence, event.type) for event in events] == [
        (last + 1, "rebuilt"),
        (last + 2, "state_changed"),
    ]


async def test_rebuilding_changes_nothing_that_the_database_has(site: Site) -> None:
    async with site.plane() as plane:
        job_id = await plane.started()
        await plane.aftercare.tick()
        before = await plane.job(job_id)

        assert await rebuild(plane.jobs, plane.objects, now=plane.clock()) == (0, [])

        assert await plane.job(job_id) == before


async def test_a_copy_that_cannot_be_read_is_named_and_holds_up_no_other(site: Site) -> None:
    async with site.plane() as plane:
        sound, damaged, empty = [await plane.submit() for _ in range(3)]
    site.store.put(JobKeys(damaged).record, b'{"job": {"id": "')
    site.store.put(JobKeys(empty).record, b"{}")
    async with site.rebuilt() as plane:
        assert await rebuild(plane.jobs, plane.objects, now=plane.clock()) == (0, sorted([damaged, empty]))
        assert (await plane.job(sound)).state == "queued"
        with pytest.raises(JobNotFound):
            await plane.job(damaged)


async def test_a_copy_is_read_as_it_was_written(site: Site) -> None:
    async with site.plane() as plane:
        job_id = await plane.started(max_runtime_seconds=60, labels={"a": "b"})
        plane.cluster.reachable = False
        await plane.service.pause(job_id, requester=REQUESTER)
        await plane.settle()
        job, attempts = await plane.job(job_id), await plane.jobs.attempts(job_id)

        assert read_record(record_of(job, attempts)) == (job, attempts)


async def test_a_copy_of_another_release_is_read(site: Site) -> None:
    """What that release did not have is as in a new job; what only that one has is passed over."""
    async with site.plane() as plane:
        job_id = await plane.started()
        job, attempts = await plane.job(job_id), await plane.jobs.attempts(job_id)
        document = json.loads(record_of(job, attempts))
        document["job"]["mood"] = document["attempts"][0]["mood"] = "good"
        for later in ("user_failures", "conditions", "owner", "owner_name"):
            del document["job"][later]

        assert read_record(json.dumps(document).encode()) == (
            replace(job, conditions={}, owner=None, owner_name=None),
            attempts,
        )


async def test_a_copy_of_before_there_were_kinds_is_of_a_training(site: Site) -> None:
    async with site.plane() as plane:
        job_id = await plane.started(name="older")
        await plane.aftercare.tick()
        before = await plane.job(job_id)
        document = json.loads(plane.store.get(JobKeys(job_id).record))
        assert document["job"].pop("kind") == "train"
        plane.store.put(JobKeys(job_id).record, json.dumps(document).encode())
    async with site.rebuilt() as plane:
        job = await plane.job(job_id)

        assert job == replace(before, event_sequence=before.event_sequence + 1, record_due=True)
        assert [one.id for one in await plane.jobs.page(Filters(project="default", kind="train"), limit=10)] == [job_id]


async def test_a_job_that_is_no_training_comes_back_as_what_it_was(site: Site) -> None:
    spec = {"kind": "import", "dataset": {"kind": "builtin", "name": "fashion16"}}
    async with site.plane() as plane:
        job_id = await plane.submit(spec=spec)
        before = await plane.job(job_id)
    async with site.rebuilt() as plane:
        job = await plane.job(job_id)

        assert (job.kind, job.spec) == ("import", before.spec)
        assert [one.id for one in await plane.jobs.page(Filters(project="default", kind="import"), limit=10)] == [
            job_id
        ]


@pytest.mark.parametrize("record", [b"", b"[]", b"null", b'{"job": [], "attempts": []}', b'{"job": {}, "attempts": 3}'])
def test_what_is_no_copy_is_refused_as_such(record: bytes) -> None:
    with pytest.raises(ValueError, match=r"record|JSON|Expecting"):
        read_record(record)
