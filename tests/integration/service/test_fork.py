"""Forks: new jobs from the checkpoints of others."""

from pathlib import Path
from typing import Any
from unittest.mock import AsyncMock

import pytest
from pydantic import ValidationError

from service.cluster import MemoryCluster
from service.errors import CheckpointNotFound, InvalidRequest
from service.jobs.objects import JobObjects
from service.jobs.views import EvaluateEach, ForkCreate
from tests.support.findings import evaluation_of
from tests.support.plane import REQUESTER, Plane, Script, plane_in
from workers.contract.document import problems_of
from workers.contract.features import FID_SHA256
from workers.contract.keys import MANIFEST, JobKeys
from workers.contract.records import CheckpointRef


async def with_checkpoints(plane: Plane, **fields: Any) -> str:
    job_id = await plane.started(**fields)
    for images_seen in (100, 160, 200):
        plane.worker(job_id).checkpoint(images_seen, at=plane.clock())
    return job_id


async def forked(plane: Plane, parent: str, **request: Any) -> tuple[str, list[str]]:
    """The new job's id, and where its document differs."""
    fork = ForkCreate.model_validate(request)
    plane.clock.advance(0.01)
    job, changes = await plane.submissions.fork(parent, fork, requester=REQUESTER)
    return job.id, [change.pointer for change in changes]


def origin_of(plane: Plane, job_id: str) -> tuple[str, int, int]:
    origin = CheckpointRef.model_validate_json(plane.store.get(JobKeys(job_id).origin))
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


async def test_a_plan_of_a_fork_counts_what_is_left_and_writes_nothing_down(plane: Plane) -> None:
    parent = await with_checkpoints(plane)
    plane.worker(parent).progress(at=plane.clock(), images_seen=200)
    await plane.settle()

    plan = await plane.submissions.plan_fork(parent, ForkCreate(), requester=REQUESTER)

    assert plan.estimate.seconds == (320 - 200) / 10
    assert any(parent in warning for warning in plan.warnings)
    assert await plane.jobs.queue(limit=10) == []


async def test_a_fork_can_start_from_the_checkpoint_whose_evaluation_is_the_best_whatever_mlflow_has_of_it(
    plane: Plane,
) -> None:
    parent = await with_checkpoints(plane)
    for images_seen, value in ((100, 0.4), (150, 0.1), (200, 0.3)):  # that of 150 has been removed meanwhile
        found = evaluation_of(images_seen, measures={"KD-ENL0": {"value": value}}, num_images=1000)
        key = JobKeys(parent).evaluation(images_seen, 1, found.job_id)
        plane.store.put(key, found.model_dump_json().encode())

    child, _ = await forked(plane, parent, source={"best": "eval/KD-ENL0-1k"})

    assert origin_of(plane, child)[1] == 200
    with pytest.raises(CheckpointNotFound, match="no curve eval/FID-50k at its checkpoints"):
        await forked(plane, parent, source={"best": "eval/FID-50k"})


@pytest.mark.parametrize("curve", ["eval/recall", "loss/dsm", "throughput/images_per_second"])
def test_a_curve_that_is_not_best_where_it_is_lowest_is_refused(curve: str) -> None:
    with pytest.raises(ValidationError) as caught:
        ForkCreate.model_validate({"source": {"best": curve}})

    (problem,) = problems_of(caught.value)
    assert problem.pointer == "/source/best"
    assert (
        problem.message == "name a curve of evaluations, as eval/KD-ENL0-1k, of one of FD-, FID, KD-, KID, loss, gap_"
    )


async def test_of_many_checkpoints_only_the_one_that_is_forked_is_read(
    plane: Plane, monkeypatch: pytest.MonkeyPatch
) -> None:
    parent = await with_checkpoints(plane)
    read, get = list[str](), plane.store.get
    monkeypatch.setattr(plane.store, "get", lambda key: read.append(key) or get(key))

    await forked(plane, parent)

    manifests = {key for key in read if key.endswith(MANIFEST)}
    assert manifests == {f"{JobKeys(parent).checkpoint(200, 1)}{MANIFEST}"}


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


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, EvaluateEach(num_images=100, every_images=100)),
        ({"evaluations": {"num_images": 500}}, EvaluateEach(num_images=500)),
        ({"evaluations": None}, None),
    ],
)
async def test_a_fork_is_evaluated_as_its_parent_unless_it_is_told_otherwise(
    plane: Plane, given: dict[str, Any], expected: EvaluateEach | None
) -> None:
    parent = await with_checkpoints(plane, evaluations={"num_images": 100, "every_images": 100})

    child, _ = await forked(plane, parent, **given)

    job = await plane.job(child)
    assert (job.evaluations and EvaluateEach.model_validate_json(job.evaluations)) == expected
    assert job.evaluations_due is (expected is not None)


async def test_inherited_evaluations_that_do_not_fit_are_named_with_how_to_leave_them_out(plane: Plane) -> None:
    parent = await with_checkpoints(plane, evaluations={"sampler": {"sigma_max": 10.0}})
    overrides = {"sampler": {"sigma_min": 20.0}}

    with pytest.raises(InvalidRequest) as inherited:
        await forked(plane, parent, overrides=overrides)
    with pytest.raises(InvalidRequest) as own:
        await forked(plane, parent, overrides=overrides, evaluations={"sampler": {"sigma_max": 9.0}})
    child, _ = await forked(plane, parent, overrides=overrides, evaluations=None)

    leave_out = "; so the parent's evaluations do not fit: give others, or null for none (`cdm fork --no-evaluations`)"
    (problem,), (of_its_own,) = inherited.value.problems, own.value.problems
    assert problem.pointer == of_its_own.pointer
    assert problem.pointer.startswith("/evaluations/sampler/")
    assert problem.message == of_its_own.message + leave_out
    assert (await plane.job(child)).evaluations is None


async def test_a_file_of_inherited_evaluations_that_is_gone_is_named_in_the_same_way(
    tmp_path: Path, script: Script
) -> None:
    weights = tmp_path / "fid.pth"
    weights.write_bytes(b"")
    features = {"kind": "inception", "weights": str(weights), "sha256": FID_SHA256}
    async with plane_in(tmp_path, cluster=MemoryCluster(script), local_paths=True) as plane:
        parent = await with_checkpoints(plane, evaluations={"features": features})
        weights.unlink()

        with pytest.raises(InvalidRequest) as refused:
            await forked(plane, parent)

    (problem,) = refused.value.problems
    assert problem.pointer == "/evaluations/features/weights"
    assert problem.message.startswith(f"there is no file {weights}; so the parent's evaluations do not fit")


async def test_a_job_that_ended_before_its_first_checkpoint_names_what_begins_anew(plane: Plane) -> None:
    job_id = await plane.started()
    await plane.end(job_id, "failed", reason="out_of_memory")

    with pytest.raises(CheckpointNotFound, match=f"it has ended without any; `cdm submit --like {job_id}` begins anew"):
        await forked(plane, job_id)


async def test_a_fork_pins_its_checkpoint_and_starts_from_none_that_is_being_removed(
    plane: Plane, monkeypatch: pytest.MonkeyPatch
) -> None:
    parent = await with_checkpoints(plane)

    await forked(plane, parent, source={"images_seen": 160})

    keys = JobKeys(parent)
    assert plane.store.list(keys.pins) == [keys.pin(160, 1)]
    images = await plane.objects.checkpoint_images(parent)
    found = await plane.objects.checkpoint(parent, images_seen=200, attempt=None)
    plane.store.delete(keys.checkpoint(200, 1) + MANIFEST)
    monkeypatch.setattr(JobObjects, "checkpoint_images", AsyncMock(return_value=images))
    monkeypatch.setattr(JobObjects, "checkpoint", AsyncMock(return_value=found))
    with pytest.raises(CheckpointNotFound, match="no checkpoint at 200 images any more: take a newer one"):
        await forked(plane, parent)
