"""Evaluations that follow a training: each checkpoint that is due gets one, and never two."""

import asyncio
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from service.errors import InvalidRequest
from service.jobs.followups import due
from service.jobs.lifecycle import JobState
from service.jobs.records import JobRecord
from service.jobs.views import AT_IMAGES, OF_JOB, EvaluateEach, ForkCreate, JobCreate
from tests.support.plane import REQUESTER, Plane, eventually, served_in
from workers.contract.evaluation import EvaluateSpec
from workers.contract.keys import MANIFEST, JobKeys
from workers.contract.presets import PRESETS

AT_A_TIME = 8


async def followed(plane: Plane, *checkpoints: int, **wanted: Any) -> str:
    job_id = await plane.started(evaluations={"num_images": 100, **wanted})
    for images_seen in checkpoints:
        plane.worker(job_id).checkpoint(images_seen, at=plane.clock())
    return job_id


async def evaluations(plane: Plane) -> list[JobRecord]:
    jobs = [await plane.job(each) for each in await plane.objects.job_ids()]
    return sorted((job for job in jobs if job.kind == "evaluate"), key=lambda job: int(job.labels[AT_IMAGES]))


async def tick(plane: Plane) -> None:
    plane.clock.advance(1)
    await plane.followups.tick()


@pytest.mark.parametrize(
    ("there", "every", "evaluated", "has_ended", "expected"),
    [
        ([160, 320], None, 0, False, [160, 320]),
        ([160, 320, 480], None, 320, False, [480]),
        ([160, 320, 480, 640], 300, 0, False, [320, 640]),
        ([160, 320, 480], 1000, 0, False, []),
        ([160, 320, 480], 1000, 0, True, [480]),
        ([160, 320, 480], 300, 480, True, []),
        ([], None, 0, True, []),
    ],
)
def test_the_first_checkpoint_behind_each_multiple_is_due_and_the_last_of_all(
    there: list[int], every: int | None, evaluated: int, has_ended: bool, expected: list[int]
) -> None:
    assert due(there, EvaluateEach(every_images=every), evaluated=evaluated, has_ended=has_ended) == expected


async def test_every_checkpoint_is_evaluated_once_in_the_lowest_class(plane: Plane) -> None:
    job_id = await followed(plane, 100, 160)

    await tick(plane)
    plane.worker(job_id).checkpoint(200, at=plane.clock())
    await tick(plane)
    await tick(plane)

    found = await evaluations(plane)
    specs = [EvaluateSpec.model_validate_json(job.spec) for job in found]
    assert [spec.checkpoint.images_seen for spec in specs] == [100, 160, 200]
    assert {(spec.checkpoint.job_id, spec.num_images, spec.compute.accelerator) for spec in specs} == {
        (job_id, 100, "cpu")
    }
    assert {(job.labels[OF_JOB], job.priority, job.project) for job in found} == {(job_id, 0, "default")}
    assert {(job.owner, job.owner_name) for job in found} == {("tester", "Tess")}, "as the training's"
    assert len(plane.store.list(JobKeys(job_id).pins)) == 3


async def test_a_look_that_finds_nothing_due_reads_no_manifest_and_others_only_new_ones(
    plane: Plane, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = await followed(plane, 100, 160, every_images=100)
    await tick(plane)
    read, get = list[str](), plane.store.get

    def noted(key: str) -> bytes:
        read.append(key)
        return get(key)

    monkeypatch.setattr(plane.store, "get", noted)
    await tick(plane)
    plane.worker(job_id).checkpoint(170, at=plane.clock())
    await tick(plane)
    assert read == []

    assert [each.images_seen for _, each in await plane.objects.checkpoints(job_id, above=160)] == [170]
    assert read == [f"{JobKeys(job_id).checkpoint(170, 1)}{MANIFEST}"]


async def test_evaluations_of_the_longest_document_that_is_taken_are_made(plane: Plane) -> None:
    longest = 32_000
    while True:
        try:
            job_id = await plane.started(evaluations={"num_images": 100, "classes": [7] * longest})
            break
        except InvalidRequest:
            longest -= 1
    plane.worker(job_id).checkpoint(100, at=plane.clock())
    await tick(plane)

    (evaluation,) = await evaluations(plane)

    assert len(evaluation.spec) > 2 * longest


async def test_two_replicas_submit_no_evaluation_twice(plane: Plane) -> None:
    job_id = await followed(plane, 100)

    await asyncio.gather(*(plane.followups.tick() for _ in range(5)))

    assert len(await evaluations(plane)) == 1
    assert (await plane.job(job_id)).evaluated_images == 100


async def test_trainings_that_have_yet_to_begin_are_not_looked_at(
    plane: Plane, monkeypatch: pytest.MonkeyPatch
) -> None:
    waiting, listed, list_ = [await plane.submit(evaluations={}) for _ in range(20)], list[str](), plane.store.list

    def noted(prefix: str) -> list[str]:
        listed.append(prefix)
        return list_(prefix)

    monkeypatch.setattr(plane.store, "list", noted)
    await plane.service.pause(waiting[0], requester=REQUESTER)
    await tick(plane)
    assert listed == []

    await plane.cancel(waiting[1])
    await tick(plane)
    await tick(plane)
    assert listed == [JobKeys(waiting[1]).checkpoints], "once, and then nobody looks"


async def test_a_few_trainings_are_looked_at_side_by_side(plane: Plane, monkeypatch: pytest.MonkeyPatch) -> None:
    for _ in range(3 * AT_A_TIME):
        job = await plane.job(await plane.submit(evaluations={}))
        await plane.jobs.apply(job, replace(job, state=JobState.RUNNING, attempt=1), at=plane.clock())
    inside, most, seen, gate, list_ = set[str](), list[int](), list[str](), threading.Event(), plane.store.list

    def held_back(prefix: str) -> list[str]:
        inside.add(prefix)
        gate.wait(10)
        most.append(len(inside))
        inside.remove(prefix)
        seen.append(prefix)
        return list_(prefix)

    async def are_inside() -> bool:
        return len(inside) >= AT_A_TIME

    monkeypatch.setattr(plane.store, "list", held_back)
    looking = asyncio.create_task(tick(plane))
    await eventually(are_inside, what="some are looked at")
    gate.set()
    await looking

    assert max(most) == AT_A_TIME
    assert len(set(seen)) == 3 * AT_A_TIME


async def test_one_replica_looks_and_another_when_that_is_gone(plane: Plane) -> None:
    other = replace(plane.followups, replica=replace(plane.parts.replica, token="other"))
    job_id = await followed(plane)
    await tick(plane)
    plane.worker(job_id).checkpoint(100, at=plane.clock())

    await other.tick()
    assert await evaluations(plane) == []
    plane.clock.advance(60)
    await other.tick()

    assert len(await evaluations(plane)) == 1


async def test_one_that_dies_before_it_commits_has_submitted_nothing(
    plane: Plane, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = await followed(plane, 100)

    async def die(*_: Any, **__: Any) -> None:
        raise ConnectionResetError

    with monkeypatch.context() as broken:
        broken.setattr("service.jobs.submission.record_audit", die)
        await tick(plane)
    assert (await plane.job(job_id)).evaluated_images == 0
    await tick(plane)

    assert len(await plane.jobs.queue(limit=10)) == len(await evaluations(plane)) == 1
    assert (await plane.job(job_id)).evaluated_images == 100


async def test_the_last_checkpoint_is_evaluated_when_the_training_has_ended_and_then_nobody_looks(plane: Plane) -> None:
    job_id = await followed(plane, 100, 320, every_images=1000)

    await tick(plane)
    assert await evaluations(plane) == []
    await plane.end(job_id)
    await tick(plane)

    (only,) = await evaluations(plane)
    assert only.labels[AT_IMAGES] == "320"
    assert await plane.jobs.with_evaluations_due() == []


async def test_a_training_that_is_retried_is_followed_again(plane: Plane) -> None:
    job_id = await followed(plane, 100)
    await plane.end(job_id, "failed")
    while not (await plane.job(job_id)).state.is_terminal:
        await plane.end(job_id, "failed")
    await tick(plane)
    assert await plane.jobs.with_evaluations_due() == []

    await plane.service.retry(job_id, requester=REQUESTER)
    plane.worker(job_id).checkpoint(200, at=plane.clock())
    await tick(plane)

    assert [job.labels[AT_IMAGES] for job in await evaluations(plane)] == ["100", "200"]


async def test_a_fork_is_evaluated_behind_the_next_multiple_as_its_parent_would_be(plane: Plane) -> None:
    parent = await followed(plane, 200, every_images=100)
    fork, _ = await plane.submissions.fork(parent, ForkCreate(), requester=REQUESTER)
    await plane.settle()
    for images_seen in (260, 310):
        plane.worker(fork.id).checkpoint(images_seen, at=plane.clock())

    await tick(plane)

    assert [(job.labels[OF_JOB], job.labels[AT_IMAGES]) for job in await evaluations(plane)] == [
        (parent, "200"),
        (fork.id, "310"),
    ]


async def test_what_follows_a_training_may_have_fields_of_its_own(plane: Plane) -> None:
    await followed(plane, 100, repeats=2, sampler={"steps": 7}, timeline_steps=[3], drift_images=0, pass_images=5)

    await tick(plane)

    (job,) = await evaluations(plane)
    spec = EvaluateSpec.model_validate_json(job.spec)
    assert spec.sampler is not None
    assert (spec.repeats, spec.sampler.steps, spec.timeline_steps, spec.drift_images) == (2, 7, (3,), 0)
    assert spec.pass_images == 5


@pytest.mark.parametrize(
    ("wanted", "pointer"),
    [
        ({"drift_images": 1}, "/evaluations/drift_images"),
        ({"average": "EMA"}, "/evaluations/average"),
        ({"average": "ema-0.05x"}, "/evaluations/average"),
        ({"reference": "https://example.com/statistics.npz"}, "/evaluations/reference"),
        ({"first_seed": 2**53 - 100, "num_images": 50, "repeats": 3}, "/evaluations/first_seed"),
        ({"sampler": {"sigma_min": 90.0, "sigma_max": 80.0}}, "/evaluations/sampler/sigma_min"),
    ],
)
async def test_what_would_be_wrong_with_each_evaluation_is_said_when_the_training_is_submitted(
    tmp_path: Path, wanted: dict[str, Any], pointer: str
) -> None:
    spec = PRESETS["smoke"].model_dump(mode="json")

    async with served_in(tmp_path) as served:
        answer = await served.api.post("/v1/jobs", json={"spec": spec, "evaluations": wanted})

    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
    assert [problem["pointer"] for problem in answer.json()["errors"]] == [pointer]


async def test_a_document_of_evaluations_that_can_never_be_is_not_tried_again_and_again(plane: Plane) -> None:
    """An earlier release took such ones."""
    job_id = await followed(plane, 100)
    job = await plane.job(job_id)
    await plane.jobs.apply(job, replace(job, evaluations='{"drift_images": 1}'), at=plane.clock())

    await tick(plane)
    assert (await plane.job(job_id)).evaluated_images == 100
    await plane.end(job_id)
    await tick(plane)

    assert await evaluations(plane) == []
    assert await plane.jobs.with_evaluations_due() == []


async def test_only_trainings_are_followed(plane: Plane) -> None:
    spec = {"kind": "import", "dataset": {"kind": "builtin", "name": "fashion16"}}

    with pytest.raises(ValueError, match="only trainings have checkpoints; leave it out"):
        JobCreate.model_validate({"spec": spec, "evaluations": {}})


async def test_a_comparison_takes_two_trainings_of_the_project(plane: Plane) -> None:
    trained, other = await plane.submit(), await plane.submit()

    made = await plane.submit(spec={"kind": "compare", "job_id": trained, "control_job_id": other})

    assert ((await plane.job(made)).kind, (await plane.job(made)).accelerator) == ("compare", "cpu")
    with pytest.raises(InvalidRequest) as refused:
        await plane.submit(spec={"kind": "compare", "job_id": trained, "control_job_id": made})
    assert [problem.pointer for problem in refused.value.problems] == ["/spec/control_job_id"]
    with pytest.raises(ValueError, match="is the same job"):
        await plane.submit(spec={"kind": "compare", "job_id": trained, "control_job_id": trained})
