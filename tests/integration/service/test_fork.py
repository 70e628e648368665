"""Forks: new jobs from the checkpoints of others."""

from typing import Any
from unittest.mock import AsyncMock

import pytest

from service.errors import CheckpointNotFound, InvalidRequest
from service.jobs.objects import JobObjects
from service.jobs.views import ForkCreate
from tests.support.plane import ORIGIN, Plane
from workers.contract.keys import MANIFEST, JobKeys
from workers.contract.records import Origin


async def with_checkpoints(plane: Plane) -> str:
    job_id = await plane.started()
    for images_seen in (100, 160, 200):
        plane.worker(job_id).checkpoint(images_seen, at=plane.clock())
    return job_id


async def forked(plane: Plane, parent: str, **request: Any) -> tuple[str, list[str]]:
    """The new job's id, and where its document differs."""
    fork = ForkCreate.model_validate(request)
    plane.clock.advance(0.01)
    job, changes = await plane.service.fork(parent, fork, origin=ORIGIN)
    return job.id, [change.pointer for change in changes]


def origin_of(plane: Plane, job_id: str) -> tuple[str, int, int]:
    origin = Origin.model_validate_json(plane.store.get(JobKeys(job_id).origin))
    return origin.job_id, origin.images_seen, origin.attempt


async def test_a_fork_is_a_new_job_that_starts_from_the_newest_checkpoint_and_shows_what_differs(plane: Plane) -> None:
    parent = await with_checkpoints(plane)

    child, changes = await forked(plane, parent, overrides={"optimizer": {"learning_rate": 0.01}})

    job = await plane.job(child)
    assert (job.parent_job_id, job.parent_images) == (parent, 200)
    assert changes == ["/optimizer/learning_rate"]
    assert origin_of(plane, child) == (parent, 200, 1)
    await plane.settle()
    assert (await plane.job(child)).state == "starting"
    assert (await plane.job(parent)).state == "running"


@pytest.mark.parametrize(("at", "expected"), [(199, 160), (160, 160), (100, 100), (10_000, 200)])
async def test_a_fork_can_start_from_an_earlier_checkpoint(plane: Plane, at: int, expected: int) -> None:
    parent = await with_checkpoints(plane)

    child, _ = await forked(plane, parent, source={"images_seen": at})

    assert origin_of(plane, child)[1] == expected


async def test_a_fork_can_start_from_the_checkpoint_where_a_curve_is_lowest(plane: Plane) -> None:
    parent = await with_checkpoints(plane)
    plane.mlflow.curves["loss/dsm"] = {90: 0.4, 150: 0.2, 190: 0.3}

    child, _ = await forked(plane, parent, source={"best": "loss/dsm"})

    assert origin_of(plane, child)[1] == 160
    with pytest.raises(CheckpointNotFound):
        await forked(plane, parent, source={"best": "loss/none"})


async def test_a_fork_needs_a_checkpoint_and_something_to_do(plane: Plane) -> None:
    young = await plane.started()
    with pytest.raises(CheckpointNotFound):
        await forked(plane, young)
    parent = await with_checkpoints(plane)
    with pytest.raises(CheckpointNotFound):
        await forked(plane, parent, source={"images_seen": 99})
    with pytest.raises(InvalidRequest) as caught:
        await forked(plane, parent, overrides={"network": {"channels": 16}, "duration_images": 160})

    assert {problem.pointer for problem in caught.value.problems} == {
        "/overrides/network",
        "/overrides/duration_images",
    }
    assert len(await plane.jobs.queue(limit=10)) == 0, "nothing was written down"


async def test_a_fork_pins_its_checkpoint_and_starts_from_none_that_is_being_removed(
    plane: Plane, monkeypatch: pytest.MonkeyPatch
) -> None:
    parent = await with_checkpoints(plane)

    await forked(plane, parent, source={"images_seen": 160})

    keys = JobKeys(parent)
    assert plane.store.list(keys.pins) == [keys.pin(160, 1)]
    listed = await plane.objects.checkpoints(parent)
    plane.store.delete(keys.checkpoint(200, 1) + MANIFEST)
    monkeypatch.setattr(JobObjects, "checkpoints", AsyncMock(return_value=listed))
    with pytest.raises(CheckpointNotFound, match="no checkpoint at 200 images any more: take a newer one"):
        await forked(plane, parent)
