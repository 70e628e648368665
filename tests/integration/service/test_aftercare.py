"""What remains to be done when a job has moved on: logs, MLflow's runs, the copy in the object store."""

import asyncio
import json
import threading
from dataclasses import replace
from datetime import timedelta
from unittest.mock import AsyncMock, call

import pytest

from service.cluster.base import RunStatus
from service.errors import DatabaseUnavailable
from service.jobs.rebuild import read_record
from service.jobs.store import JobStore
from service.jobs.views import JobUpdate
from tests.support.jobs import progress
from tests.support.plane import REQUESTER, Plane, Script, eventually, until_run
from workers.contract.keys import JobKeys


async def ended(plane: Plane, script: Script, status: str = "succeeded", reason: str | None = None) -> str:
    """A job whose driver is gone, too."""
    job_id = await plane.started()
    plane.mlflow.runs["run1"] = "RUNNING"
    plane.worker(job_id).outcome(status, at=plane.clock(), reason=reason)
    script.exit(f"{job_id}-a1", 0 if status == "succeeded" else 1)
    ends_as = RunStatus.SUCCEEDED if status == "succeeded" else RunStatus.FAILED
    await until_run(plane, f"{job_id}-a1", ends_as)
    await plane.settle()
    return job_id


async def looked_after(plane: Plane) -> None:
    await plane.aftercare.tick()
    await plane.parts.tracking.tick()
    await plane.parts.tracking.find_experiments()


async def test_the_engines_log_is_copied_when_the_driver_has_said_its_last(plane: Plane, script: Script) -> None:
    job_id = await plane.started()
    await plane.end(job_id, "failed", reason="data_error")
    await looked_after(plane)
    assert await plane.objects.log_sources(job_id, 1) == [], "it may still print"

    script.exit(f"{job_id}-a1", 1)
    await until_run(plane, f"{job_id}-a1", RunStatus.FAILED)
    await looked_after(plane)

    said = f"running {job_id}-a1\n".encode()
    assert await plane.objects.log_chunk(job_id, 1, "engine", 0) == said
    assert await plane.objects.log_chunk(job_id, 1, "driver", 0) == said, "it shipped none itself"
    assert await plane.jobs.with_log_due() == []


async def test_the_log_that_a_driver_shipped_itself_is_kept(plane: Plane, script: Script) -> None:
    job_id = await plane.started()
    plane.store.put(plane.worker(job_id).keys.log_chunk("driver", 0), b"its own words\n")
    script.exit(f"{job_id}-a1", 1)
    await until_run(plane, f"{job_id}-a1", RunStatus.FAILED)
    await plane.settle()
    await looked_after(plane)

    assert await plane.objects.log_chunk(job_id, 1, "driver", 0) == b"its own words\n"
    assert await plane.objects.log_chunk(job_id, 1, "engine", 0) == f"running {job_id}-a1\n".encode()


async def test_a_log_that_cannot_be_copied_is_given_up_in_the_end(plane: Plane, script: Script) -> None:
    await ended(plane, script)
    plane.cluster.reachable = False
    await looked_after(plane)
    assert len(await plane.jobs.with_log_due()) == 1

    plane.clock.advance(601)
    await looked_after(plane)

    assert await plane.jobs.with_log_due() == []


async def test_nothing_is_begun_when_the_database_fails_half_way_through_what_is_due(
    plane: Plane, script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is begun and never awaited is a warning, which the tests take for an error."""
    await ended(plane, script)
    due = len(await plane.jobs.with_log_due())
    with monkeypatch.context() as broken:
        broken.setattr(JobStore, "with_record_due", AsyncMock(side_effect=DatabaseUnavailable("gone")))
        with pytest.raises(DatabaseUnavailable):
            await plane.aftercare.tick()

    assert len(await plane.jobs.with_log_due()) == due == 1
    await looked_after(plane)
    assert await plane.jobs.with_log_due() == []


async def test_however_many_copies_are_due_others_find_the_store_free(
    plane: Plane, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has 32 threads, and here it takes whatever is put and does not answer."""
    for _ in range(40):
        await plane.service.update(await plane.submit(), JobUpdate(name="new"), requester=REQUESTER)
    assert len(await plane.jobs.with_record_due()) == 40
    answer, hanging, put = threading.Event(), list[str](), plane.store.put

    def put_slowly(key: str, data: bytes) -> None:
        hanging.append(key)
        answer.wait()
        put(key, data)

    async def eight_hang() -> bool:
        return len(hanging) >= 8

    monkeypatch.setattr(plane.store, "put", put_slowly)
    copying = asyncio.create_task(plane.aftercare.tick())
    try:
        await eventually(eight_hang, what="copies are written")
        async with asyncio.timeout(10):
            found = await asyncio.gather(*(plane.objects.job_ids() for _ in range(40)))
        assert len(hanging) == 8
    finally:
        answer.set()
        await copying

    assert {len(ids) for ids in found} == {40}
    assert await plane.jobs.with_record_due() == []


async def test_the_mlflow_run_ends_as_the_job_did(plane: Plane, script: Script) -> None:
    job_id = await ended(plane, script, "failed", "data_error")
    await looked_after(plane)

    assert plane.mlflow.runs == {"run1": "FAILED"}
    assert (await plane.job(job_id)).mlflow_experiment_id == "7"


async def test_labels_that_were_changed_while_it_ran_are_those_of_the_mlflow_run_in_the_end(
    plane: Plane, script: Script
) -> None:
    job_id = await ended(plane, script)
    job = await plane.job(job_id)
    said = progress(mlflow_run_id="run1", versions={"torch": "9.1"})
    await plane.jobs.apply(job, replace(job, progress=said), at=plane.clock())
    labels = JobUpdate(labels={"rate": "1e-3"})
    await plane.service.update(job_id, labels, requester=REQUESTER)

    await looked_after(plane)

    told = {"cdm.project": "default", "cdm.label.rate": "1e-3", "mlflow.user": "Tess", "cdm.torch": "9.1"}
    assert plane.mlflow.tags == {"run1": told}
    assert plane.mlflow.runs == {"run1": "FINISHED"}


async def test_a_cancelled_run_is_killed(plane: Plane) -> None:
    job_id = await plane.started()
    plane.mlflow.runs["run1"] = "RUNNING"
    await plane.cancel(job_id)
    await plane.end(job_id, "stopped")
    await looked_after(plane)

    assert plane.mlflow.runs == {"run1": "KILLED"}


async def test_mlflow_being_down_delays_only_what_mlflow_is_told(plane: Plane, script: Script) -> None:
    plane.mlflow.down = True
    job_id = await ended(plane, script)
    await looked_after(plane)
    assert (await plane.job(job_id)).state == "succeeded"
    assert await plane.objects.log_sources(job_id, 1)

    plane.mlflow.down = False
    await looked_after(plane)

    assert plane.mlflow.runs == {"run1": "FINISHED"}


async def test_a_job_that_runs_has_its_page_in_mlflow_while_the_curves_of_others_are_brought_there(
    plane: Plane, script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After an outage of a day that takes hours."""
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def run_of(*_: object, **__: object) -> None:
        begun.set()
        await go_on.wait()

    await ended(plane, script)
    running = await plane.started()
    monkeypatch.setattr(plane.parts.tracking.mlflow, "run_of", run_of)
    completing = asyncio.create_task(plane.parts.tracking.tick())
    await begun.wait()

    await plane.parts.tracking.find_experiments()

    assert (await plane.job(running)).mlflow_experiment_id == "7"
    go_on.set()
    await completing


@pytest.mark.parametrize(("lease", "due"), [("tracking", "with_mlflow_due"), ("purges", "with_purge_due")])
async def test_a_replica_that_does_not_do_the_work_reads_none_of_it(
    plane: Plane, script: Script, monkeypatch: pytest.MonkeyPatch, lease: str, due: str
) -> None:
    job_id = await ended(plane, script)
    await plane.service.delete(job_id, requester=REQUESTER, purge=("logs",))
    assert await replace(plane.parts.replica, token="other").hold(lease)
    question = AsyncMock(side_effect=getattr(plane.jobs, due))
    monkeypatch.setattr(JobStore, due, question)

    await plane.parts.tracking.tick()
    await plane.parts.purges.tick()

    assert question.await_args_list == [call(limit=1)]


async def test_a_replica_says_that_another_tells_mlflow(plane: Plane, script: Script) -> None:
    """Where that one never comes to an end, none has come to one."""
    await ended(plane, script)
    other = replace(plane.parts.replica, token="other")
    assert await other.hold("tracking")

    assert await plane.parts.tracking.tick() is None
    assert await replace(plane.parts.tracking, replica=other).tick() is False
    assert await plane.parts.tracking.tick() is False, "nothing is left to be told"


async def test_mlflow_is_given_up_after_days(plane: Plane, script: Script) -> None:
    plane.mlflow.down = True
    job_id = await ended(plane, script)
    await looked_after(plane)
    assert [job.id for job in await plane.jobs.with_mlflow_due()] == [job_id]

    plane.clock.advance(48 * 3600 + 1)
    await looked_after(plane)

    assert await plane.jobs.with_mlflow_due() == []


async def test_mlflow_is_told_again_when_somebody_asks(plane: Plane, script: Script) -> None:
    plane.mlflow.down = True
    job_id = await ended(plane, script)
    plane.clock.advance(48 * 3600 + 1)
    await looked_after(plane)

    plane.mlflow.down = False
    asked = await plane.service.replay(job_id, requester=REQUESTER)
    await looked_after(plane)

    assert (asked.state, asked.mlflow_due_until) == ("succeeded", plane.clock() + timedelta(days=2))
    assert plane.mlflow.runs == {"run1": "FINISHED"}
    assert (await plane.events(job_id))[-1] == "replay_asked"
    assert await plane.jobs.with_mlflow_due() == []


async def test_a_run_that_mlflow_has_lost_is_no_longer_shown(plane: Plane, script: Script) -> None:
    job_id = await ended(plane, script)
    await looked_after(plane)

    plane.mlflow.runs.clear()
    await plane.service.replay(job_id, requester=REQUESTER)
    await looked_after(plane)

    job = await plane.job(job_id)
    assert (job.mlflow_run_id, job.mlflow_experiment_id) == (None, None), "it has measured nothing to tell of"
    assert await plane.jobs.with_mlflow_due() == []


async def test_a_job_that_is_tried_again_is_not_closed_in_mlflow_meanwhile(plane: Plane, script: Script) -> None:
    job_id = await ended(plane, script, "failed", "data_error")
    await plane.service.retry(job_id, requester=REQUESTER)
    await looked_after(plane)

    assert plane.mlflow.runs == {"run1": "RUNNING"}


async def test_the_copy_in_the_object_store_follows_the_job(plane: Plane) -> None:
    job_id = await plane.submit("a name", labels={"team": "vision"})
    first, none = read_record(plane.store.get(JobKeys(job_id).record))
    assert (first.state, first.name, first.labels, none) == ("queued", "a name", {"team": "vision"}, [])

    await plane.settle()
    await looked_after(plane)

    copied, attempts = read_record(plane.store.get(JobKeys(job_id).record))
    job = await plane.job(job_id)
    assert (copied.state, copied.attempt, copied.event_sequence) == (job.state, 1, job.event_sequence)
    assert [attempt.submission_id for attempt in attempts] == [f"{job_id}-a1"]
    assert await plane.jobs.with_record_due() == []


async def test_the_copy_has_no_secret_and_can_be_read_by_people(plane: Plane) -> None:
    job_id = await plane.submit()

    document = json.loads(plane.store.get(JobKeys(job_id).record))

    assert set(document) == {"job", "attempts"}
    assert plane.settings.api_key.get_secret_value() not in json.dumps(document)
