"""What every engine promises, held against the one in memory, a scripted Ray over HTTP, and a real Ray head."""

import sys
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import pytest
from pydantic import SecretStr

from service.cluster import Cluster, MemoryCluster, RayCluster
from service.cluster.base import (
    AlreadySubmitted,
    ClusterUnreachable,
    Resources,
    Run,
    RunStatus,
    Submission,
    SubmissionRefused,
)
from service.cluster.memory import Process
from tests.support import hold_cpus
from tests.support.plane import eventually
from tests.support.ray_head import RayHead, free_ports, ray_head
from tests.support.scripted_ray import Job, ScriptedRay
from tests.support.scripted_ray_http import scripted_ray

NUM_CPUS = 4
HOLD = f"{sys.executable} {Path(hold_cpus.__file__)} 2"


@dataclass(frozen=True)
class Engine:
    """A cluster, and how long it may take."""

    cluster: Cluster
    deadline_seconds: float


@pytest.fixture(scope="session")
def head() -> Iterator[RayHead]:
    with ray_head(num_cpus=NUM_CPUS) as head:
        yield head


async def shell(process: Process) -> int:
    """Plays the few commands that the tests submit."""
    match process.submission.entrypoint.split():
        case ["true"]:
            return 0
        case ["exit", code]:
            return int(code)
        case ["echo", *words]:
            process.print(" ".join(words))
            return 0
        case [_, script, num_cpus] if script == hold_cpus.__file__:
            process.holds = Resources(cpus=float(num_cpus), gpus=0.0)
            process.print("holding")
    await process.stop_requested.wait()
    return 0


def play(ray: ScriptedRay, job: Job) -> None:
    """The same commands, for the scripted Ray."""
    match job.entrypoint.split():
        case ["true"]:
            ray.succeed(job.submission_id)
        case ["exit", code]:
            ray.fail(job.submission_id, message=f"Job entrypoint command failed with exit code {code}")
        case ["echo", *words]:
            job.printed.append(" ".join(words) + "\n")
            ray.succeed(job.submission_id)
        case [_, script, num_cpus] if script == hold_cpus.__file__:
            job.holds = Resources(cpus=float(num_cpus), gpus=0.0)
            job.printed.append("holding\n")


@pytest.fixture(params=["memory", "scripted", "ray"])
async def engine(request: pytest.FixtureRequest) -> AsyncIterator[Engine]:
    match request.param:
        case "memory":
            memory = MemoryCluster(shell)
            memory.total = Resources(cpus=float(NUM_CPUS), gpus=0.0)
            yield Engine(memory, 5.0)
        case "scripted":
            with scripted_ray(token="scripted") as scripted:
                scripted.on_start = lambda job: play(scripted, job)
                cluster = RayCluster(scripted.url, token=SecretStr("scripted"))
                yield Engine(cluster, 5.0)
                await cluster.close()
        case _:
            head: RayHead = request.getfixturevalue("head")
            cluster = RayCluster(head.url, token=SecretStr(head.token))
            yield Engine(cluster, 90.0)
            await cluster.close()


_count = iter(range(1_000_000))


def submission(entrypoint: str, **metadata: str) -> Submission:
    return Submission(
        submission_id=f"test-{next(_count)}-a1",
        entrypoint=entrypoint,
        metadata=metadata,
        environment={"RAY_JOB_STOP_WAIT_TIME_S": "5"},
    )


async def until(engine: Engine, submission_id: str, *statuses: RunStatus) -> Run:
    found: list[Run] = []

    async def reached() -> bool:
        run = await engine.cluster.find(submission_id)
        found[:] = [run] if run else []
        return run is not None and run.status in statuses

    await eventually(reached, what=f"{submission_id} in {statuses}", seconds=engine.deadline_seconds)
    return found[0]


async def test_a_command_that_ends_well_succeeds_and_its_words_are_kept(engine: Engine) -> None:
    one = submission("echo one two", cdm_nonce="abc")
    await engine.cluster.submit(one)

    run = await until(engine, one.submission_id, RunStatus.SUCCEEDED, RunStatus.FAILED)

    assert (run.status, run.error_type, run.metadata) == (RunStatus.SUCCEEDED, None, {"cdm_nonce": "abc"})
    assert "one two\n" in await engine.cluster.logs(one.submission_id)


async def test_a_command_that_fails_is_proof_against_the_entrypoint(engine: Engine) -> None:
    one = submission("exit 3")
    await engine.cluster.submit(one)

    run = await until(engine, one.submission_id, RunStatus.SUCCEEDED, RunStatus.FAILED)

    assert (run.status, run.error_type) == (RunStatus.FAILED, "JOB_ENTRYPOINT_COMMAND_ERROR")
    assert "exit code 3" in (run.message or "")


async def test_submitting_the_same_id_again_is_told_apart_even_after_its_end(engine: Engine) -> None:
    one = submission("true")
    await engine.cluster.submit(one)
    with pytest.raises(AlreadySubmitted):
        await engine.cluster.submit(one)

    await until(engine, one.submission_id, RunStatus.SUCCEEDED)

    with pytest.raises(AlreadySubmitted):
        await engine.cluster.submit(one)


async def test_a_running_command_is_stopped_and_stopping_again_does_nothing(engine: Engine) -> None:
    one = submission("sleep 1000")
    await engine.cluster.submit(one)
    await until(engine, one.submission_id, RunStatus.RUNNING)

    await engine.cluster.stop(one.submission_id)
    await until(engine, one.submission_id, RunStatus.STOPPED)
    await engine.cluster.stop(one.submission_id)

    run = await engine.cluster.find(one.submission_id)
    assert run is not None
    assert run.status is RunStatus.STOPPED


async def test_a_session_is_named_and_stays_the_same(engine: Engine) -> None:
    session = await engine.cluster.session()

    assert session
    assert await engine.cluster.session() == session


async def test_all_submissions_are_listed_with_what_is_known_of_them(engine: Engine) -> None:
    ended, running = submission("exit 3", cdm_job="one"), submission("sleep 1000", cdm_job="two")
    for one in (ended, running):
        await engine.cluster.submit(one)
    await until(engine, ended.submission_id, RunStatus.FAILED)
    await until(engine, running.submission_id, RunStatus.RUNNING)

    listed = {run.submission_id: run for run in await engine.cluster.list()}

    for one in (ended, running):
        assert listed[one.submission_id] == await engine.cluster.find(one.submission_id)
        assert listed[one.submission_id].metadata == one.metadata
    await engine.cluster.stop(running.submission_id)


async def test_one_that_is_over_can_be_forgotten_and_one_that_is_not_stays(engine: Engine) -> None:
    ended, running = submission("true"), submission("sleep 1000")
    for one in (ended, running):
        await engine.cluster.submit(one)
    await until(engine, ended.submission_id, RunStatus.SUCCEEDED)
    await until(engine, running.submission_id, RunStatus.RUNNING)

    for one in (ended, ended, running):
        await engine.cluster.delete(one.submission_id)

    assert await engine.cluster.find(ended.submission_id) is None
    assert ended.submission_id not in [run.submission_id for run in await engine.cluster.list()]
    run = await engine.cluster.find(running.submission_id)
    assert run is not None
    assert run.status is RunStatus.RUNNING
    await engine.cluster.stop(running.submission_id)


async def test_what_others_hold_is_not_free_until_they_let_go(engine: Engine) -> None:
    """On a real head by a job that knows nothing of us, and started as `cdm up` does, without a monitor."""
    one = submission(HOLD)
    await engine.cluster.submit(one)

    async def held(cpus: float) -> bool:
        capacity = await engine.cluster.capacity()
        assert capacity.total == Resources(cpus=float(NUM_CPUS), gpus=0.0)
        return capacity.free == Resources(cpus=NUM_CPUS - cpus, gpus=0.0)

    await eventually(lambda: held(2.0), what="two CPUs are held", seconds=engine.deadline_seconds)
    await engine.cluster.stop(one.submission_id)

    await eventually(lambda: held(0.0), what="all is free again", seconds=engine.deadline_seconds)


async def test_an_id_that_was_never_submitted_is_unknown_and_not_an_error(engine: Engine) -> None:
    assert await engine.cluster.find("job_unknown-a1") is None
    await engine.cluster.stop("job_unknown-a1")
    await engine.cluster.delete("job_unknown-a1")
    assert await engine.cluster.logs("job_unknown-a1") == ""


async def test_what_can_never_run_is_refused(engine: Engine) -> None:
    broken = replace(submission("true"), metadata=cast("dict[str, str]", {"number": 1}))
    too_large = submission("true " + "x" * (2 << 20))

    for one in (broken, too_large):
        with pytest.raises(SubmissionRefused):
            await engine.cluster.submit(one)
        assert await engine.cluster.find(one.submission_id) is None


def test_an_id_that_no_path_can_name_never_leaves_the_house() -> None:
    """Ray answers 500 to it and keeps a phantom in its list."""
    with pytest.raises(ValueError, match="not a submission id"):
        Submission(submission_id="bad id/..%", entrypoint="true", metadata={}, environment={})


async def test_a_ready_engine_passes_the_probe_and_keeps_no_trace_of_it(engine: Engine) -> None:
    before = {run.submission_id for run in await engine.cluster.list()}

    await engine.cluster.probe()
    await engine.cluster.probe()

    assert {run.submission_id for run in await engine.cluster.list()} == before


async def test_a_pending_submission_ignores_being_stopped() -> None:
    """Ray's behaviour, which our submissions cannot provoke on a real head since they ask for no resources."""
    cluster = MemoryCluster(shell, num_slots=0)
    one = submission("sleep 1000")
    await cluster.submit(one)

    await cluster.stop(one.submission_id)

    run = await cluster.find(one.submission_id)
    assert run is not None
    assert run.status is RunStatus.PENDING


async def test_a_head_that_is_not_there_or_refuses_the_token_is_unreachable(head: RayHead) -> None:
    """Neither may look like an answer about the submission."""
    nowhere = RayCluster(f"http://127.0.0.1:{free_ports(1)[0]}")
    stranger = RayCluster(head.url, token=SecretStr("not-the-token"))

    for cluster in (nowhere, stranger):
        for call in (cluster.probe(), cluster.find("job_1-a1"), cluster.submit(submission("true"))):
            with pytest.raises(ClusterUnreachable):
                await call
        await cluster.close()
