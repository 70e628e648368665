"""What a plan warns of, at its edges, and what it takes to be warned."""

import pytest

from service.cluster.base import Resources
from service.database.tables import projects
from service.jobs.views import JobCreate
from tests.support.jobs import SPEC
from tests.support.plane import REQUESTER, Plane, Script

TWO_CPUS = Resources(cpus=2, gpus=0)  # as many as SPEC has workers


async def warned(plane: Plane, **fields: object) -> str:
    """Of a job that is like no other that runs."""
    request = JobCreate(spec=SPEC.model_copy(update={"seed": 99}), **fields)
    return " | ".join((await plane.submissions.plan(request, requester=REQUESTER)).warnings)


async def test_nothing_is_said_of_what_will_go_well(plane: Plane) -> None:
    assert await warned(plane, max_runtime_seconds=1.0) == ""


async def test_a_limit_that_like_jobs_would_pass_is_said(plane: Plane) -> None:
    await plane.started(spec=SPEC)
    like = await plane.submissions.plan(JobCreate(spec=SPEC), requester=REQUESTER)
    assert like.estimate.seconds
    seconds = like.estimate.seconds

    less = await warned(plane, max_runtime_seconds=seconds - 1)

    assert less == (
        f"like jobs would take {seconds:.0f} s: with max_runtime_seconds at {seconds - 1:g} it would be ended before"
    )
    assert await warned(plane, max_runtime_seconds=seconds) == ""


@pytest.mark.parametrize(("cpus", "is_said"), [(1, True), (2, False)])
async def test_a_cluster_that_is_too_small_is_said_and_one_that_is_busy_is_not(
    plane: Plane, script: Script, cpus: float, is_said: bool
) -> None:
    script.holds = lambda _: TWO_CPUS
    plane.cluster.total = TWO_CPUS
    await plane.started(spec=SPEC)
    plane.cluster.total = Resources(cpus=cpus, gpus=0)

    said = await warned(plane)

    assert ("it needs 2 cpu workers, and all nodes together have room for 1" in said) == is_said
    assert bool(said) == is_said


async def test_an_engine_that_does_not_answer_is_said(plane: Plane) -> None:
    plane.cluster.reachable = False

    assert "the engine does not answer" in await warned(plane)


@pytest.mark.parametrize(("max_workers", "is_said"), [(0, True), (1, True), (2, False)])
async def test_a_quota_that_is_too_small_for_the_job_is_said(plane: Plane, max_workers: int, is_said: bool) -> None:
    project = {"name": "default", "created_at": plane.clock(), "max_workers": max_workers}
    async with plane.parts.database.writing() as connection:
        await connection.execute(projects.insert().values(project))

    said = await warned(plane)

    assert bool(said) == is_said
    assert (
        not said or f"the quota of default is {max_workers} in workers: this job, with 2, would wait for ever" in said
    )
