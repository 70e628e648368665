"""What an application does by itself, with nobody turning its wheels."""

import asyncio
import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import select, text

from service.cluster import MemoryCluster
from service.cluster.base import Submission
from service.database.tables import idempotency_keys
from service.identifiers import new_id
from service.jobs.followups import FollowUps
from service.jobs.housekeeping import Housekeeping
from service.jobs.loop import Loop
from service.jobs.sweep import Sweep
from service.web.idempotency_store import IdempotencyStore
from service.webhooks.records import DeliveryRecord, WebhookRecord
from service.webhooks.store import WebhookStore
from tests.support.plane import Plane, Script, eventually, plane_in, served_in
from tests.support.submissions import ended, trained
from workers.contract.keys import INSTALLATION, JOBS, UNWANTED, UPLOADS, JobKeys, UploadKeys, unwanted_dataset
from workers.storage.memory import MemoryStore

DIGEST, DAY = "1a" * 32, 86400.0
KEYS = "idempotency keys"


class Unlistable(MemoryStore):
    """Lists nothing below one folder, and is away for whoever asks for that."""

    broken: str | None = None

    def list(self, prefix: str) -> list[str]:
        if self.broken and prefix.startswith(self.broken):
            raise ConnectionError("the store is on fire")
        return super().list(prefix)


async def test_an_application_purges_sweeps_and_keeps_house(tmp_path: Path) -> None:
    store = MemoryStore()
    store.put(unwanted_dataset(DIGEST), b"")
    async with served_in(tmp_path, store=store, sweep_interval_seconds=0.01) as served:

        async def is_in_order() -> bool:
            return store.list(UNWANTED) == []

        await eventually(is_in_order, what="the data set that nobody wants is gone")

        job_id = await trained(served, (160, 1))
        await ended(served, job_id)
        await served.cluster.submit(
            Submission(
                submission_id=f"{job_id}-a7",
                entrypoint="sleep 1",
                metadata={"cdm_job": job_id, "cdm_service": store.get(INSTALLATION).decode()},
                environment={},
            )
        )

        async def is_swept() -> bool:
            return await served.cluster.find(f"{job_id}-a7") is None

        await eventually(is_swept, what="what runs for nobody is stopped and forgotten")
        answer = await served.api.delete(f"/v1/jobs/{job_id}", params={"purge": "checkpoints"})
        assert answer.status_code == 204

        async def is_purged() -> bool:
            return store.list(JobKeys(job_id).checkpoints) == []

        await eventually(is_purged, what="the checkpoints of a deleted job are gone")


async def test_an_application_ends_while_several_of_its_loops_are_busy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.jobs.loop._PATIENCE_SECONDS", 0.05)
    busy, told, told_in_time = set[str](), set[str](), list[set[str]]()
    stop = Loop.stop

    def noted(loop: Loop) -> None:
        told.add(loop.name)
        stop(loop)

    async def forever(self: object) -> None:
        busy.add(type(self).__name__)
        try:
            await asyncio.Event().wait()
        finally:
            told_in_time.append(set(told))

    monkeypatch.setattr(Loop, "stop", noted)
    monkeypatch.setattr(Housekeeping, "tick", forever)
    monkeypatch.setattr(FollowUps, "tick", forever)
    monkeypatch.setattr(Sweep, "tick", forever)
    async with served_in(tmp_path):

        async def all_are() -> bool:
            return busy == {"Housekeeping", "FollowUps", "Sweep"}

        await eventually(all_are, what="three loops are busy")

    assert told_in_time == [told] * 3, "all are told to stop before one is cancelled"


async def test_an_application_that_ends_leaves_its_jobs_to_others(tmp_path: Path) -> None:
    async with served_in(tmp_path) as served:
        await trained(served, (160, 1))

        async def is_held() -> bool:
            return _leases(tmp_path) == 1

        await eventually(is_held, what="the job is looked after")

    assert _leases(tmp_path) == 0


def _leases(folder: Path) -> int:
    with closing(sqlite3.connect(folder / "service.db")) as file:
        [(number,)] = file.execute("SELECT count(*) FROM jobs WHERE lease_token IS NOT NULL")
    return int(number)


async def out_of_time(plane: Plane) -> dict[str, str]:
    """Things that have all served their time: the key in the store of each, by the folder that it is looked for in."""
    job_id = await plane.started()
    job, at = await plane.job(job_id), plane.clock()
    await plane.jobs.apply(job, replace(job, dataset=""), at=at)  # else it might be about the set that nobody wants
    await IdempotencyStore(plane.parts.database).reserve("default", "key", request_sha256="", now=at)
    found = {
        UPLOADS: UploadKeys(new_id("upl", at=at)).part(1),
        UNWANTED: unwanted_dataset(DIGEST),
        JOBS: JobKeys(job_id).pin(160, 1, "job_of_nobody"),
    }
    for key in found.values():
        plane.store.put(key, at.isoformat().encode())
    plane.clock.advance(8 * DAY)
    return found


@pytest.mark.parametrize("broken", [UPLOADS, UNWANTED, JOBS])
async def test_what_cannot_be_removed_keeps_nothing_else_from_being_removed(
    tmp_path: Path, script: Script, broken: str
) -> None:
    store = Unlistable()
    async with plane_in(tmp_path, cluster=MemoryCluster(script), store=store) as plane:
        found = await out_of_time(plane)

        async def left() -> set[str]:
            await plane.parts.housekeeping.tick()
            async with plane.parts.database.reading() as connection:
                rows = (await connection.execute(select(idempotency_keys))).all()
            there = {folder for folder, key in found.items() if key in MemoryStore.list(store, "")}
            return there | ({KEYS} if rows else set())

        store.broken = broken
        assert await left() == {broken}
        store.broken = None
        assert await left() == set()


async def test_deliveries_are_forgotten_after_a_month(plane: Plane) -> None:
    at, webhooks = plane.clock(), WebhookStore(plane.parts.database)
    hook = WebhookRecord(
        id="whk_1", project="default", url="http://x.test", event_types=(), secret="", enabled=True, created_at=at
    )
    async with plane.parts.database.writing() as connection:
        await webhooks.add(connection, hook)
        given_up = DeliveryRecord(id=new_id("dlv", at=at), webhook_id=hook.id, created_at=at, due_at=None)
        await webhooks.add_delivery(connection, given_up)
    plane.clock.advance(31 * DAY)

    await plane.parts.housekeeping.tick()

    assert await webhooks.deliveries(hook.id, before=None, limit=10) == []


async def test_a_table_that_cannot_be_used_keeps_no_object_from_being_removed(plane: Plane) -> None:
    found = await out_of_time(plane)
    async with plane.parts.database.writing() as connection:
        await connection.execute(text("DROP TABLE idempotency_keys"))

    await plane.parts.housekeeping.tick()

    assert not {*found.values()} & {*plane.store.list("")}
