"""What becomes of jobs that draw from a training's checkpoints, and of what they find."""

import asyncio
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from service.cluster import MemoryCluster
from service.cluster.base import RunStatus
from service.errors import InvalidRequest, JobGone, StateConflict
from service.identifiers import new_id
from service.jobs.lifecycle import JobState
from service.jobs.references import ResolvedSpec, resolve
from service.jobs.views import ForkCreate, JobCreate
from tests.support.findings import evaluation_of
from tests.support.plane import REQUESTER, Plane, Script, plane_in, until_run
from workers.contract.keys import RESULT, JobKeys

FD = {"FD": {"value": 1.5}}


def drawing(job_id: str, kind: str = "sample") -> dict[str, Any]:
    return {"kind": kind, "checkpoint": {"job_id": job_id}, "compute": {"accelerator": "cpu"}}


async def drawn(plane: Plane, script: Script, job_id: str, kind: str = "sample") -> str:
    """A job of this kind that has succeeded, and left a result and a piece."""
    drawn_id = await plane.submit(spec=drawing(job_id, kind))
    await plane.settle()
    keys = JobKeys(drawn_id)
    plane.store.put(keys.results + RESULT, b"{}")
    plane.store.put(keys.piece("images-0"), b"half done")
    plane.worker(drawn_id).outcome("succeeded", at=plane.clock())
    script.exit(f"{drawn_id}-a1", 0)
    await until_run(plane, f"{drawn_id}-a1", RunStatus.SUCCEEDED)
    await plane.settle()
    return drawn_id


async def test_what_was_found_is_listed_by_images_seen_and_what_cannot_be_read_is_passed_over(plane: Plane) -> None:
    job_id = await plane.submit()
    keys = JobKeys(job_id)
    for images_seen, by in ((1_000_000, "job_c"), (200, "job_b"), (200, "job_a"), (30, "job_d")):
        found = evaluation_of(images_seen, of=job_id, job_id=by, measures=FD)
        plane.store.put(keys.evaluation(images_seen, 1, by), found.model_dump_json().encode())
    newer = json.loads(evaluation_of(400, of=job_id, job_id="job_e").model_dump_json()) | {"mood": "good"}
    plane.store.put(keys.evaluation(400, 2, "job_e"), json.dumps(newer).encode())
    for name, damaged in (("job_x", b""), ("job_y", b'{"job_id": "job_y"}'), ("job_z", b"\xff")):
        plane.store.put(keys.evaluation(300, 1, name), damaged)

    listed = await plane.objects.evaluations(job_id)

    assert [(each.checkpoint.images_seen, each.job_id) for each in listed] == [
        *((30, "job_d"), (200, "job_a"), (200, "job_b"), (400, "job_e"), (1_000_000, "job_c")),
    ]
    assert listed[0] == evaluation_of(30, of=job_id, job_id="job_d", measures=FD)


@pytest.mark.parametrize("kind", ["sample", "evaluate"])
async def test_mlflow_hears_nothing_of_a_job_that_is_no_training(plane: Plane, script: Script, kind: str) -> None:
    job_id = await plane.trained(160)
    await plane.parts.tracking.tick()
    plane.mlflow.runs.clear()

    drawn_id = await drawn(plane, script, job_id, kind)
    await plane.aftercare.tick()

    assert (await plane.job(drawn_id)).mlflow_due_until is None
    assert await plane.jobs.with_mlflow_due() == []
    assert await plane.objects.log_sources(drawn_id, 1) == ["driver", "engine"], "its log is kept like any other's"


async def test_a_purge_takes_results_and_pieces_and_leaves_what_the_training_has(plane: Plane, script: Script) -> None:
    job_id = await plane.trained(160)
    drawn_id = await drawn(plane, script, job_id, "evaluate")
    evaluation = JobKeys(job_id).evaluation(160, 1, drawn_id)
    plane.store.put(evaluation, evaluation_of(160, of=job_id, job_id=drawn_id).model_dump_json().encode())

    await plane.service.delete(drawn_id, requester=REQUESTER, purge=("results",))
    await plane.parts.purges.tick()

    keys = JobKeys(drawn_id)
    assert plane.store.list(keys.results) == plane.store.list(keys.pieces) == []
    assert plane.store.get(keys.spec)
    assert [each.job_id for each in await plane.objects.evaluations(job_id)] == [drawn_id]
    assert len(await plane.objects.checkpoints(job_id)) == 1
    assert await plane.jobs.with_purge_due() == []


async def test_a_job_that_draws_from_weights_may_be_tried_again_without_any_checkpoint(plane: Plane) -> None:
    weights = {"kind": "sample", "weights": "https://example.org/edm.safetensors", "compute": {"accelerator": "cpu"}}
    drawn_id = await plane.submit(spec=weights)
    await plane.cancel(drawn_id)
    await plane.settle()

    again = await plane.service.retry(drawn_id, requester=REQUESTER)

    assert (again.state, again.parent_job_id) == (JobState.QUEUED, None)


async def test_only_trainings_are_forked_and_replayed_and_whoever_tries_is_told_so(
    plane: Plane, script: Script
) -> None:
    drawn_id = await drawn(plane, script, await plane.trained(160))
    because = "only trainings can, and it is a job of kind sample; possible: archive, delete"

    with pytest.raises(StateConflict, match=f"cannot fork; {because}") as fork:
        await plane.submissions.fork(drawn_id, ForkCreate(), requester=REQUESTER)
    with pytest.raises(StateConflict, match=f"cannot replay; {because}") as replay:
        await plane.service.replay(drawn_id, requester=REQUESTER)

    for refused in (fork, replay):
        assert refused.value.extra == {"current_state": "succeeded", "allowed": ["archive", "delete"]}


async def test_checkpoints_are_not_purged_while_something_may_still_be_drawn_from_them(
    plane: Plane, script: Script
) -> None:
    job_id = await plane.trained(160)
    waiting = await plane.submit(spec=drawing(job_id))

    with pytest.raises(StateConflict, match=f"{waiting} may still read its checkpoints"):
        await plane.service.delete(job_id, requester=REQUESTER, purge=("checkpoints",))
    await plane.cancel(waiting)
    await plane.service.delete(job_id, requester=REQUESTER, purge=("checkpoints",))
    await plane.parts.purges.tick()

    assert plane.store.list(JobKeys(job_id).checkpoints) == []


async def test_a_drawing_and_the_deletion_of_its_checkpoints_do_not_both_happen(
    tmp_path: Path, script: Script, database_url: str
) -> None:
    async with plane_in(tmp_path, cluster=MemoryCluster(script), database_url=database_url) as plane:
        for _ in range(5):
            job_id = await plane.trained(160)
            create = JobCreate.model_validate({"spec": drawing(job_id)})
            submit = plane.submissions.submit(create, requester=REQUESTER)
            delete = plane.service.delete(job_id, requester=REQUESTER, purge=("checkpoints",))

            submitted, deleted = await asyncio.gather(submit, delete, return_exceptions=True)

            was_refused = isinstance(submitted, JobGone | InvalidRequest)
            assert was_refused != isinstance(deleted, StateConflict), (submitted, deleted)


async def test_of_two_equal_submissions_at_once_the_one_that_is_made_keeps_its_own_document(
    plane: Plane, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A checkpoint comes between: the loser settles on it and writes its document last."""
    job_id = await plane.trained(100)
    create, twin = JobCreate.model_validate({"spec": drawing(job_id)}), new_id("job", at=plane.clock())

    async def resolved_late(*args: Any, **named: Any) -> ResolvedSpec:
        """While it looked, the same request has been carried out, and a checkpoint has come."""
        monkeypatch.undo()
        await plane.submissions.submit(create, requester=REQUESTER, job_id=twin)
        plane.worker(job_id).checkpoint(160, at=plane.clock())
        return await resolve(*args, **named)

    monkeypatch.setattr("service.jobs.submission.resolve", resolved_late)
    made = await plane.submissions.submit(create, requester=REQUESTER, job_id=twin)

    assert json.loads(made.spec)["checkpoint"]["images_seen"] == 100
    assert plane.store.get(JobKeys(twin).spec).decode() == made.spec
    assert replace(await plane.job(twin), record_due=True) == replace(made, record_due=True)
