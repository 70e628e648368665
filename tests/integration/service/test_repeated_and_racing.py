"""Requests that come twice or at once, replicas that are not of one release, and an engine that never answers."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from service.cluster import MemoryCluster
from service.cluster.memory import Driver
from service.datasets.store import DatasetStore
from service.errors import JobGone, JobNotFound, StateConflict, StorageUnavailable
from service.identifiers import new_id
from service.jobs.rebuild import read_record
from service.jobs.records import JobRecord
from service.jobs.views import ForkCreate, JobCreate
from tests.support.plane import DEADLINE_SECONDS, REQUESTER, Plane, Script, plane_in
from workers.contract.keys import JobKeys
from workers.contract.presets import PRESETS
from workers.contract.records import CheckpointRef
from workers.storage import ObjectStore
from workers.storage.memory import MemoryStore

CREATE = JobCreate(spec=PRESETS["smoke"])
STRANGER = replace(REQUESTER, project="other")


def copy_of(plane: Plane, job_id: str) -> JobRecord:
    return read_record(plane.store.get(JobKeys(job_id).record))[0]


async def test_a_repeated_submission_leaves_the_copy_of_what_has_become_of_the_job(plane: Plane) -> None:
    job_id = new_id("job", at=plane.clock())
    await plane.submissions.submit(CREATE, requester=REQUESTER, job_id=job_id)
    await plane.cancel(job_id)
    await plane.aftercare.tick()

    repeated = await plane.submissions.submit(CREATE, requester=REQUESTER, job_id=job_id)

    assert (repeated.state, copy_of(plane, job_id).state) == ("cancelled", "cancelled")


async def test_of_two_equal_submissions_at_once_one_is_made_and_its_copy_is_right(plane: Plane) -> None:
    job_id = new_id("job", at=plane.clock())

    one, other = await asyncio.gather(
        *(plane.submissions.submit(CREATE, requester=REQUESTER, job_id=job_id) for _ in range(2))
    )
    await plane.aftercare.tick()

    assert one.id == other.id == job_id
    assert copy_of(plane, job_id) == replace(await plane.job(job_id), record_due=True)
    assert await plane.events(job_id) == ["created"]


async def test_a_repeated_fork_is_the_first_one_whatever_checkpoint_is_the_newest_by_then(plane: Plane) -> None:
    parent = await plane.started()
    plane.worker(parent).checkpoint(100, at=plane.clock())
    fork, child = ForkCreate(), new_id("job", at=plane.clock())
    first = await plane.submissions.fork(parent, fork, requester=REQUESTER, new_job_id=child)
    plane.worker(parent).checkpoint(160, at=plane.clock())

    repeated = await plane.submissions.fork(parent, fork, requester=REQUESTER, new_job_id=child)

    assert repeated == (replace(first[0], record_due=repeated[0].record_due), first[1])
    assert (await plane.job(child)).parent_images == 100


class FullStore(MemoryStore):
    """Takes no object of this name while there is one."""

    refused: str | None = None

    def put(self, key: str, data: bytes) -> None:
        self._take(key)
        super().put(key, data)

    def put_if_absent(self, key: str, data: bytes) -> bool:
        self._take(key)
        return super().put_if_absent(key, data)

    def _take(self, key: str) -> None:
        if self.refused and key.endswith(self.refused):
            raise OSError("no room")


def origin_in(store: ObjectStore, job_id: str) -> CheckpointRef:
    return CheckpointRef.model_validate_json(store.get(JobKeys(job_id).origin))


async def test_a_fork_that_failed_half_way_is_repeated_from_the_checkpoint_that_it_has_chosen(
    tmp_path: Path, script: Script
) -> None:
    store = FullStore()
    async with plane_in(tmp_path, cluster=MemoryCluster(script), store=store) as plane:
        parent = await plane.started()
        plane.worker(parent).checkpoint(100, at=plane.clock())
        fork, child = ForkCreate(overrides={"seed": 7}), new_id("job", at=plane.clock())
        store.refused = "/spec.json"
        with pytest.raises(StorageUnavailable):
            await plane.submissions.fork(parent, fork, requester=REQUESTER, new_job_id=child)
        store.refused = None
        plane.worker(parent).checkpoint(160, at=plane.clock())

        made, changes = await plane.submissions.fork(parent, fork, requester=REQUESTER, new_job_id=child)

        assert [change.pointer for change in changes] == ["/seed"]
        assert made.parent_images == origin_in(store, child).images_seen == 100
        assert store.list(JobKeys(parent).pins) == [JobKeys(parent).pin(100, 1)]


async def test_a_job_whose_copy_cannot_be_saved_is_made_and_copied_later(tmp_path: Path, script: Script) -> None:
    store = FullStore()
    async with plane_in(tmp_path, cluster=MemoryCluster(script), store=store) as plane:
        store.refused = "/job.json"
        job_id = await plane.submit()
        assert await plane.objects.record(job_id) is None
        store.refused = None

        await plane.aftercare.tick()

        assert copy_of(plane, job_id) == replace(await plane.job(job_id), record_due=True)


async def test_of_two_equal_forks_at_once_that_choose_otherwise_the_job_is_what_its_workers_find(
    plane: Plane, monkeypatch: pytest.MonkeyPatch
) -> None:
    parent = await plane.started()
    plane.worker(parent).checkpoint(100, at=plane.clock())
    child, save = new_id("job", at=plane.clock()), plane.objects.save_origin

    async def outrun(job_id: str, origin: CheckpointRef) -> CheckpointRef:
        """The other request has settled on the checkpoint before this one, between this one's look and its own word."""
        await save(job_id, origin.model_copy(update={"images_seen": 100}))
        return await save(job_id, origin)

    plane.worker(parent).checkpoint(160, at=plane.clock())
    monkeypatch.setattr(plane.objects, "save_origin", outrun)

    made, _ = await plane.submissions.fork(parent, ForkCreate(), requester=REQUESTER, new_job_id=child)

    assert made.parent_images == origin_in(plane.store, child).images_seen == 100
    assert (await plane.job(child)).parent_images == 100


async def test_a_copy_that_was_saved_late_by_another_replica_is_made_again(plane: Plane) -> None:
    job_id = await plane.submit()
    before = await plane.job(job_id)
    await plane.cancel(job_id)
    await plane.aftercare.tick()
    assert not (await plane.job(job_id)).record_due

    await plane.aftercare._save_record(before)
    assert (await plane.job(job_id)).record_due
    await plane.aftercare.tick()

    assert copy_of(plane, job_id).state == "cancelled"


async def evaluation_noted(plane: Plane, job: JobRecord) -> None:
    await plane.jobs.give_evaluation_up(job, 160)


async def comparison_noted(plane: Plane, job: JobRecord) -> None:
    await plane.jobs.comparison_done(job)


async def run_noted(plane: Plane, job: JobRecord) -> None:
    await plane.jobs.apply(job, replace(job, mlflow_run_id="run9", record_due=True), at=plane.clock())


async def dataset_forgotten(plane: Plane, job: JobRecord) -> None:
    async with plane.parts.database.writing() as connection:
        await DatasetStore(plane.parts.database).forget(connection, job.dataset or "", project=job.project)


TRAINING: dict[str, Any] = {"evaluations": {}, "control": "edm"}
IMPORT: dict[str, Any] = {"spec": {"kind": "import", "dataset": {"kind": "npz", "path": "/data/images.npz"}}}


@pytest.mark.parametrize(
    ("fields", "change"),
    [
        (TRAINING, evaluation_noted),
        (TRAINING, comparison_noted),
        (TRAINING, run_noted),
        (IMPORT, dataset_forgotten),
    ],
)
async def test_what_changes_without_an_event_while_its_copy_is_saved_is_in_the_next_copy(
    tmp_path: Path,
    script: Script,
    database_url: str,
    fields: dict[str, Any],
    change: Callable[[Plane, JobRecord], Awaitable[None]],
) -> None:
    async with plane_in(tmp_path, cluster=MemoryCluster(script), database_url=database_url) as plane:
        job_id = await plane.started(**fields)
        first = await plane.job(job_id)
        await plane.jobs.apply(first, replace(first, dataset="0" * 64), at=plane.clock())
        read = await plane.job(job_id)
        assert read.record_due

        await change(plane, read)
        await plane.aftercare._save_record(read)
        assert copy_of(plane, job_id) == read
        await plane.aftercare.tick()

        assert not (await plane.job(job_id)).record_due
        assert copy_of(plane, job_id) == replace(await plane.job(job_id), record_due=True) != read


async def test_a_heartbeat_while_its_copy_is_saved_makes_no_second_one(plane: Plane) -> None:
    job_id = await plane.started()
    read = await plane.job(job_id)
    plane.worker(job_id).progress(at="2026-11-01T12:00:00Z", images_seen=160)
    await plane.settle()
    assert (await plane.job(job_id)).progress != read.progress

    await plane.aftercare._save_record(read)

    assert not (await plane.job(job_id)).record_due


async def test_who_may_not_see_a_job_is_told_nothing_of_its_forks(plane: Plane) -> None:
    parent = await plane.trained(160)
    await plane.submissions.fork(parent, ForkCreate(overrides={"duration_images": 640}), requester=REQUESTER)

    with pytest.raises(StateConflict):
        await plane.service.delete(parent, requester=REQUESTER, purge=("checkpoints",))
    with pytest.raises(JobNotFound):
        await plane.service.delete(parent, requester=STRANGER, purge=("checkpoints",))


async def test_a_fork_and_the_deletion_of_its_checkpoints_do_not_both_happen(
    tmp_path: Path, script: Script, database_url: str
) -> None:
    async with plane_in(tmp_path, cluster=MemoryCluster(script), database_url=database_url) as plane:
        for _ in range(10):
            parent = await plane.trained(160)
            fork = plane.submissions.fork(parent, ForkCreate(overrides={"duration_images": 640}), requester=REQUESTER)
            delete = plane.service.delete(parent, requester=REQUESTER, purge=("checkpoints",))

            forked, deleted = await asyncio.gather(fork, delete, return_exceptions=True)

            assert isinstance(forked, JobGone) != isinstance(deleted, StateConflict), (forked, deleted)


async def test_what_a_newer_replica_wrote_of_progress_stops_no_older_one(plane: Plane) -> None:
    job_id = await plane.started()
    key = JobKeys(job_id).attempt(1).progress
    plane.store.put(key, json.dumps({**json.loads(plane.store.get(key)), "images_seen": 200, "mood": "good"}).encode())

    await plane.settle()
    async with plane.parts.database.writing() as connection:
        await connection.exec_driver_sql("""UPDATE jobs SET progress = '{"mood": "good", ' || substr(progress, 2)""")

    progress = (await plane.job(job_id)).progress
    assert progress
    assert progress.images_seen == 200


class SilentCluster(MemoryCluster):
    """Takes a request to stop something, and never answers."""

    def __init__(self, driver: Driver) -> None:
        super().__init__(driver)
        self.was_asked = asyncio.Event()

    async def stop(self, submission_id: str) -> None:
        self.was_asked.set()
        await asyncio.Event().wait()


async def test_a_job_is_cancelled_while_the_engine_takes_calls_and_never_answers(
    tmp_path: Path, script: Script
) -> None:
    cluster = SilentCluster(script)
    async with plane_in(tmp_path, cluster=cluster) as plane:
        job_id = await plane.started()
        await plane.cancel(job_id, mode="now")
        plane.clock.advance(1)

        look = asyncio.create_task(plane.parts.reconciler.tick())
        async with asyncio.timeout(DEADLINE_SECONDS):
            await cluster.was_asked.wait()

        assert not look.done()
        look.cancel()
        await asyncio.wait([look])
        assert ((await plane.job(job_id)).state, (await plane.job(job_id)).unclean) == ("cancelled", True)
