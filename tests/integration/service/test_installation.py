"""Whose jobs lie in a store: a database and a store that do not belong together are noticed, and harm nothing."""

from pathlib import Path

import pytest

from service.errors import StoreOfAnotherInstallation
from service.jobs.lifecycle import JobState
from service.jobs.rebuild import rebuild
from service.uploads.views import UploadCreate
from tests.support.lost_database import Site
from tests.support.plane import REQUESTER, Script
from workers.contract.keys import INSTALLATION, JobKeys
from workers.storage.memory import MemoryStore


@pytest.fixture
def site(tmp_path: Path, script: Script) -> Site:
    return Site(tmp_path, script)


async def test_it_is_the_same_installation_as_before(site: Site) -> None:
    async with site.plane() as plane:
        await plane.started()
        us = await plane.parts.sweep.installation.id()
    async with site.rebuilt() as plane:
        assert await plane.parts.sweep.installation.id() == us


async def test_in_the_store_of_another_installation_nothing_begins(site: Site) -> None:
    """A wrong bucket, in which no document of a job lies."""
    async with site.plane() as plane:
        await plane.parts.installation.id()
        job_id = await plane.submit()
    right = site.store
    empty, theirs = MemoryStore(), MemoryStore()
    theirs.put(INSTALLATION, b"them")
    for wrong in (empty, theirs):
        site.store = wrong
        async with site.plane() as plane:
            await plane.parts.scheduler.tick()
            await plane.parts.sweep.tick()

            with pytest.raises(StoreOfAnotherInstallation, match="CDM_STORE_URL"):
                await plane.parts.installation.check_store()
            assert (await plane.job(job_id)).state is JobState.QUEUED
    site.store = right
    async with site.plane() as plane:
        await plane.parts.scheduler.tick()

        assert (await plane.job(job_id)).state is JobState.STARTING


async def test_in_the_store_of_another_installation_nothing_that_runs_is_ended(site: Site) -> None:
    async with site.plane() as plane:
        job_id = await plane.started()
    right, site.store = site.store, MemoryStore()
    async with site.plane() as plane:
        plane.clock.advance(3600)
        await plane.parts.reconciler.tick()

        assert (await plane.job(job_id)).state is JobState.RUNNING
        assert site.store.list("jobs/") == []
    site.store = right


async def test_in_the_store_of_another_installation_nothing_is_removed_nor_submitted(site: Site) -> None:
    async with site.plane() as plane:
        job_id = await plane.submit()
        await plane.cancel(job_id)
        await plane.service.delete(job_id, requester=REQUESTER, purge=("samples",))
    right, sample = site.store, JobKeys(job_id).sample(160)
    right.put(sample, b"png")
    site.store = MemoryStore()
    async with site.plane() as plane:
        for name in ("aftercare", "purges", "tracking", "followups", "housekeeping"):
            with pytest.raises(StoreOfAnotherInstallation, match="CDM_STORE_URL"):
                await plane.parts.loops[name].tick()
        with pytest.raises(StoreOfAnotherInstallation, match="CDM_STORE_URL"):
            await plane.submit()
        with pytest.raises(StoreOfAnotherInstallation, match="CDM_STORE_URL"):
            await plane.parts.datasets.page(project="default", before=None, limit=10)
        upload = UploadCreate(name="faces.zip", num_bytes=1)
        with pytest.raises(StoreOfAnotherInstallation, match="CDM_STORE_URL"):
            await plane.parts.uploads.create(upload, requester=REQUESTER, reserved_ulid=None)

        assert site.store.list("") == []
    site.store = right
    async with site.plane() as plane:
        await plane.parts.loops["purges"].tick()

        assert sample not in right.list("jobs/")


async def test_a_database_with_jobs_is_not_mixed_with_those_of_another_store(site: Site) -> None:
    async with site.plane() as plane:
        await plane.parts.installation.id()
        ours = await plane.submit()
    theirs, site.store = site.store, MemoryStore()
    site.lose_database()
    async with site.plane() as plane:
        await plane.parts.installation.id()
        await plane.submit()
    site.store = theirs
    async with site.plane() as plane:
        with pytest.raises(StoreOfAnotherInstallation, match="CDM_STORE_URL"):
            await rebuild(plane.jobs, plane.objects, now=plane.clock())

        assert await plane.jobs.find(ours) is None


async def test_before_there_are_jobs_we_become_what_the_store_is(site: Site) -> None:
    async with site.plane() as plane:
        await plane.parts.installation.id()
    site.store = MemoryStore()
    site.store.put(INSTALLATION, b"them")
    async with site.plane() as plane:
        await plane.parts.installation.check_store()

        assert await plane.parts.installation.id() == await plane.jobs.installation() == "them"


async def test_a_database_that_a_service_has_begun_can_be_rebuilt_all_the_same(site: Site) -> None:
    async with site.plane() as plane:
        us, job_id = await plane.parts.installation.id(), await plane.submit()
    site.lose_database()
    async with site.plane() as plane:
        await plane.jobs.settle_installation("before the bucket was brought")
        await rebuild(plane.jobs, plane.objects, now=plane.clock())

        assert await plane.parts.installation.id() == us
        assert (await plane.job(job_id)).state == "queued"


async def test_before_there_are_jobs_a_new_store_becomes_ours(site: Site) -> None:
    async with site.plane() as plane:
        us = await plane.parts.installation.id()
    site.store = MemoryStore()
    async with site.plane() as plane:
        await plane.parts.installation.check_store()

        assert site.store.get(INSTALLATION).decode() == us
