"""Image sets that nobody needs any more are removed; no others."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from service.cluster import MemoryCluster
from service.errors import DatasetInUse, DatasetNotFound
from service.jobs.rebuild import rebuild
from service.jobs.views import JobCreate
from tests.support.imported import IMPORT, ONE, OTHER, THIRD, bring
from tests.support.plane import REQUESTER, Plane, Script, plane_in
from tests.support.submissions import SMOKE
from workers.contract.jobs import parse_job
from workers.contract.keys import dataset_folder


async def begun(plane: Plane, *, project: str = "default") -> str:
    """An import that its driver is at."""
    plane.clock.advance(0.01)
    request = JobCreate.model_validate({"spec": parse_job(IMPORT)})
    job = await plane.submissions.submit(request, requester=replace(REQUESTER, project=project))
    await plane.settle()
    return job.id


async def brought(plane: Plane, digest: str, *, project: str = "default") -> str:
    """One that has ended."""
    job_id = await begun(plane, project=project)
    bring(plane.store, job_id, digest)
    plane.worker(job_id).outcome("succeeded", at=plane.clock())
    await plane.settle()
    return job_id


async def remove(plane: Plane, digest: str, *, project: str = "default") -> None:
    await plane.parts.datasets.remove(digest, requester=replace(REQUESTER, project=project))


async def left_of(plane: Plane, digest: str) -> list[str]:
    """What is in the store of it after a look for what nobody wants."""
    await plane.parts.housekeeping.tick()
    return plane.store.list(dataset_folder(digest))


async def test_the_bytes_go_with_the_last_project_that_has_them(plane: Plane) -> None:
    await brought(plane, ONE)
    await brought(plane, ONE, project="other")
    await brought(plane, OTHER)
    await plane.aftercare.tick()  # now all three jobs are known to have one

    await remove(plane, ONE)
    kept = await left_of(plane, ONE)
    shown, _ = await plane.parts.datasets.find(ONE, project="other")
    with pytest.raises(DatasetNotFound):
        await plane.parts.datasets.find(ONE, project="default")
    await remove(plane, ONE, project="other")

    assert len(kept) == 3
    assert shown.job.project == "other"
    assert await left_of(plane, ONE) == []
    assert len(await left_of(plane, OTHER)) == 3
    assert plane.store.list("unwanted/") == []


async def test_what_evaluations_to_come_are_measured_at_is_kept(
    tmp_path: Path, script: Script, database_url: str
) -> None:
    """For the projects that have it, and for a training of another one, too."""
    async with plane_in(tmp_path, cluster=MemoryCluster(script), database_url=database_url) as plane:
        await brought(plane, OTHER)
        for project in ("default", "other"):
            await brought(plane, ONE, project=project)
        holding_out: dict[str, Any] = {
            "spec": SMOKE | {"dataset": {"kind": "imported", "digest": OTHER}},
            "evaluations": {"num_images": 100, "held_out": ONE},
        }
        training = await plane.started(**holding_out)

        with pytest.raises(DatasetInUse, match=training):
            await remove(plane, ONE)
        await plane.end(training)
        with pytest.raises(DatasetInUse, match=training):
            await remove(plane, ONE)
        await plane.followups.tick()  # there is no checkpoint to evaluate
        await remove(plane, ONE)

        second = await plane.started(**holding_out)
        await remove(plane, ONE, project="other")
        kept = await left_of(plane, ONE)
        await plane.end(second)
        await plane.followups.tick()

        assert len(kept) == 3
        assert await left_of(plane, ONE) == []


async def test_nothing_is_removed_while_a_job_runs_that_has_not_said_what_it_imports(plane: Plane) -> None:
    await brought(plane, ONE)
    running = await begun(plane)
    await remove(plane, ONE)

    with capture_logs() as logs:
        waiting = await left_of(plane, ONE)
    bring(plane.store, running, ONE)  # it has found the same images, and relies on what is there
    await plane.aftercare.tick()

    assert len(waiting) == 3
    assert {"event": "dataset.kept_for_now", "digest": ONE, "log_level": "info"} in logs
    assert len(await left_of(plane, ONE)) == 3
    assert (await plane.parts.datasets.find(ONE, project="default"))[0].job.id == running
    assert plane.store.list("unwanted/") == []


async def test_what_a_running_job_is_about_is_known_before_it_ends(plane: Plane) -> None:
    running, other = await begun(plane), await begun(plane)
    bring(plane.store, running, ONE)

    await plane.aftercare.tick()

    assert [(await plane.job(each)).dataset for each in (running, other)] == [ONE, None]


async def test_a_job_that_failed_before_it_had_any_images_may_have_them_when_it_is_tried_again(plane: Plane) -> None:
    job_id = await begun(plane)
    await plane.end(job_id, "failed", reason="data_error")
    await plane.aftercare.tick()
    failed = (await plane.job(job_id)).dataset

    await plane.service.retry(job_id, requester=REQUESTER)
    await plane.settle()
    bring(plane.store, job_id, ONE)
    await plane.end(job_id)

    assert failed == ""
    assert (await plane.parts.datasets.find(ONE, project="default"))[0].job.id == job_id


async def test_a_database_that_was_lost_knows_the_data_sets_again(plane: Plane, tmp_path: Path, script: Script) -> None:
    """From the word of the workers, as it does those of jobs of before it noted any; and which were given up."""
    first, second, _ = await brought(plane, ONE), await brought(plane, OTHER), await brought(plane, THIRD)
    await plane.aftercare.tick()
    await remove(plane, THIRD)
    await plane.aftercare.tick()
    (tmp_path / "anew").mkdir()

    async with plane_in(tmp_path / "anew", cluster=MemoryCluster(script), store=plane.store) as anew:
        await rebuild(anew.jobs, anew.objects, now=anew.clock())
        found = await anew.parts.datasets.page(project="default", before=None, limit=10)

    assert [(one.digest, one.job.id) for one in found] == [(OTHER, second), (ONE, first)]
