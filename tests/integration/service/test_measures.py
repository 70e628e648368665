"""What Prometheus is told: everything once, of every case there is, and what is known even when the rest is not."""

from collections.abc import AsyncIterator, Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from unittest.mock import AsyncMock

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import Metric

from service.cluster import MemoryCluster
from service.cluster.base import RunStatus
from service.database import Database
from service.database.tables import projects
from service.errors import DatabaseUnavailable
from service.identifiers import new_id
from service.jobs import job_counts
from service.jobs.counters import Counters
from service.jobs.gauges import BacklogGauges, JobGauges
from service.jobs.lifecycle import JobState
from service.jobs.records import JobRecord, with_condition
from service.jobs.store import JobStore
from service.webhooks.gauges import DeliveryGauges
from tests.support.mail import Post
from tests.support.plane import REQUESTER, FailingStore, Plane, Script, plane_in, until_run
from workers.contract.keys import JobKeys
from workers.contract.presets import PRESETS
from workers.contract.records import Progress

START = datetime(2026, 11, 1, tzinfo=UTC)


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture
async def measured(tmp_path: Path, script: Script, registry: CollectorRegistry) -> AsyncIterator[Plane]:
    cluster, store = MemoryCluster(script), FailingStore()
    async with plane_in(tmp_path, cluster=cluster, store=store, registry=registry) as plane:
        yield plane


def spent(registry: CollectorRegistry, cause: str) -> float | None:
    return registry.get_sample_value("cdm_worker_seconds_total", {"cause": cause, "accelerator": "cpu"})


def ended(registry: CollectorRegistry) -> dict[tuple[str, str], float]:
    """How many attempts, by reason and blame."""
    samples = (sample for family in registry.collect() for sample in family.samples)
    return {
        (sample.labels["reason"], sample.labels["blame"]): sample.value
        for sample in samples
        if sample.name == "cdm_attempts_ended_total" and sample.value
    }


def shown(families: Iterable[Metric]) -> dict[str, dict[tuple[str, ...], float]]:
    """What is not zero, by name and labels."""
    return {
        family.name: {tuple(one.labels.values()): one.value for one in family.samples if one.value}
        for family in families
    }


async def test_what_the_time_of_workers_went_for_is_counted_once(
    measured: Plane, registry: CollectorRegistry, script: Script
) -> None:
    job_id = await measured.started()
    for useful in (10.0, 15.0, 15.0):
        measured.worker(job_id).progress(at=measured.clock(), useful=useful)
        await measured.settle()
    assert spent(registry, "useful") == 2 * 15.0

    script.exit(f"{job_id}-a1", 137)
    await until_run(measured, f"{job_id}-a1", RunStatus.FAILED)
    await measured.settle()
    measured.worker(job_id, 2).progress(at=measured.clock(), useful=20.0)
    await measured.settle()

    assert (await measured.job(job_id)).attempt == 2
    assert spent(registry, "useful") == 2 * 15.0 + 2 * 20.0
    assert spent(registry, "recomputed") == 0.0


async def test_the_end_of_an_attempt_is_somebodys_fault_unless_it_was_asked_to_leave(
    measured: Plane, registry: CollectorRegistry, script: Script
) -> None:
    wrong = await measured.started()
    await measured.end(wrong, "failed", reason="data_error")
    lost = await measured.started()
    script.exit(f"{lost}-a1", 137)
    await until_run(measured, f"{lost}-a1", RunStatus.FAILED)
    await measured.settle()
    await measured.cancel(lost, mode="now")
    measured.clock.advance(3600)
    await measured.settle()

    counted = ended(registry)

    assert counted.pop(("data_error", "user")) == counted.pop(("driver_lost", "hardware")) == 1
    assert {blame for _, blame in counted} == {"nobody"}


async def test_starting_after_a_loss_is_no_start_out_of_the_queue(
    measured: Plane, registry: CollectorRegistry, script: Script
) -> None:
    job_id = await measured.started()
    measured.clock.advance(7200)
    measured.worker(job_id).progress(at=measured.clock())
    await measured.settle()
    script.exit(f"{job_id}-a1", 137)
    await until_run(measured, f"{job_id}-a1", RunStatus.FAILED)
    await measured.settle()
    measured.worker(job_id, 2).progress(at=measured.clock())
    await measured.settle()

    again = await measured.job(job_id)
    assert (again.state, again.attempt) == (JobState.RUNNING, 2)
    assert registry.get_sample_value("cdm_start_seconds_count") == 1
    assert registry.get_sample_value("cdm_queue_wait_seconds_count") == 1


async def test_a_job_that_is_cancelled_in_the_queue_has_ended_too(measured: Plane, registry: CollectorRegistry) -> None:
    job_id = await measured.submit()

    await measured.cancel(job_id)
    await measured.service.archive(job_id, requester=REQUESTER)

    assert registry.get_sample_value("cdm_jobs_ended_total", {"state": "cancelled"}) == 1
    assert registry.get_sample_value("cdm_queue_wait_seconds_count") == 0


@pytest.mark.parametrize("away", ["object store", "database"])
async def test_looks_that_an_outage_postponed_are_told_from_those_that_failed(
    away: str, measured: Plane, registry: CollectorRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = await measured.started()
    store = measured.store
    assert isinstance(store, FailingStore)
    before = registry.get_sample_value("cdm_job_looks_total", {"result": "done"})

    if away == "database":
        monkeypatch.setattr(JobStore, "attempt", AsyncMock(side_effect=DatabaseUnavailable("gone")))
    else:
        store.broken = JobKeys(job_id).attempt(1).progress
    await measured.parts.reconciler.tick()

    assert registry.get_sample_value("cdm_job_looks_total", {"result": "done"}) == before
    assert registry.get_sample_value("cdm_job_looks_total", {"result": "postponed"}) == 1
    assert registry.get_sample_value("cdm_job_looks_total", {"result": "failed"}) == 0


def job(number: int, state: JobState, **fields: object) -> JobRecord:
    at = START + timedelta(minutes=number)
    made = JobRecord(
        id=new_id("job", at=at),
        spec=PRESETS["smoke"].model_dump_json(),
        spec_sha256="0" * 64,
        state=state,
        created_at=at,
        queued_at=at,
        started_at=None if state is JobState.QUEUED else at,
    )
    return replace(made, **fields)  # type: ignore[arg-type] # fields of JobRecord


def progress(images_seen: int, checkpoint: int | None) -> Progress:
    return Progress.model_validate(
        {
            "phase": "training",
            "images_seen": images_seen,
            "total_images": 100_000,
            "images_per_second": 10.0,
            "eta_seconds": 22.0,
            "losses": {},
            "last_checkpoint_images": checkpoint,
            "num_workers": 2,
            "mlflow_run_id": "run1",
            "updated_at": START,
        }
    )


async def test_jobs_are_told_by_where_they_stand_and_why_they_wait(database: Database) -> None:
    store, now = JobStore(database), START + timedelta(hours=2)
    silent_since, heard_at = now - timedelta(minutes=5), now - timedelta(seconds=2)
    runs = {"heard_at": heard_at, "accelerator": "gpu", "workers": 4}
    for one in (
        job(0, JobState.QUEUED, reason="waiting_capacity", workers=8, priority=0),
        job(1, JobState.QUEUED, reason="waiting_capacity", workers=2, kind="sample"),
        job(2, JobState.QUEUED, reason="of a later release"),
        job(3, JobState.RUNNING, progress=progress(5000, 4000), **runs),
        job(4, JobState.RUNNING, progress=progress(9000, 6000), **runs),
        job(5, JobState.RUNNING, progress=progress(90_000, None), kind="sample", **runs),
        with_condition(
            job(6, JobState.RUNNING, progress=progress(50_000, None), heard_at=silent_since),
            "Heartbeating",
            status=False,
            message=None,
            at=silent_since,
        ),
        with_condition(
            job(9, JobState.RECOVERING), "Heartbeating", status=False, message=None, at=silent_since
        ),  # its driver is known to be gone
        with_condition(
            job(10, JobState.STARTING, heard_at=now), "Progressing", status=False, message=None, at=silent_since
        ),
        with_condition(
            job(11, JobState.STARTING), "Progressing", status=False, message=None, at=silent_since
        ),  # its next driver is still to come
        job(12, JobState.QUEUED, reason="exceeds_cluster", workers=100, queued_at=START - timedelta(days=9)),
        job(7, JobState.PAUSED, workers=100),
        job(8, JobState.SUCCEEDED),
    ):
        await store.create(one)

    found = shown(await JobGauges(database=database, store=store, clock=lambda: now).collect())

    assert found["cdm_jobs"] == {
        ("queued", "train"): 3,
        ("queued", "sample"): 1,
        ("running", "train"): 3,
        ("running", "sample"): 1,
        ("recovering", "train"): 1,
        ("starting", "train"): 2,
        ("paused", "train"): 1,
    }
    assert found["cdm_jobs_blocked"] == {("waiting_capacity",): 2, ("exceeds_cluster",): 1, ("other",): 1}
    assert found["cdm_workers"] == {("cpu", "queued"): 111, ("gpu", "active"): 12, ("cpu", "active"): 4}
    assert found["cdm_jobs_unwell"] == {("Heartbeating",): 1, ("Progressing",): 1}
    assert found["cdm_queue_longest_wait_seconds"] == {(): 2 * 3600}
    assert found["cdm_queue_head_wait_seconds"] == {(): 119 * 60}
    assert found["cdm_images_per_second"] == {("train",): 20, ("sample",): 10}, "nobody knows of the silent one"
    assert found["cdm_checkpoint_age_seconds"] == {(): 300}


async def limited(database: Database, project: str, **quotas: int) -> None:
    row = database.insert(projects).values(name=project, created_at=START, **quotas)
    async with database.writing() as connection:
        await connection.execute(row)


async def test_what_can_never_start_is_not_next_in_turn(database: Database) -> None:
    """It holds up nobody: on an idle cluster one such job is no queue that stands still."""
    store, now = JobStore(database), START + timedelta(hours=2)
    await limited(database, "small", max_workers=4)
    await limited(database, "closed", max_jobs=0)
    await limited(database, "open")
    for one in (
        job(0, JobState.QUEUED, reason="exceeds_cluster", workers=64, priority=2, project="open"),
        job(1, JobState.QUEUED, reason="waiting_quota", workers=5, priority=2, project="small"),
        job(2, JobState.QUEUED, reason="waiting_quota", workers=1, project="closed"),
    ):
        await store.create(one)
    gauges = JobGauges(database=database, store=store, clock=lambda: now)

    found = shown(await gauges.collect())

    assert found["cdm_queue_head_wait_seconds"] == {}
    assert found["cdm_queue_longest_wait_seconds"] == {(): 119 * 60}, "of those that a quota keeps waiting"
    assert found["cdm_jobs_blocked"] == {("exceeds_cluster",): 1, ("waiting_quota",): 2}


@pytest.mark.parametrize(
    ("project", "reason", "workers"),
    [
        ("small", "waiting_quota", 4),
        ("open", "waiting_capacity", 64),
        ("nowhere", "backend_down", 64),
        ("open", None, 1),
    ],
)
async def test_behind_what_can_never_start_the_first_that_can_is_next_in_turn(
    database: Database, project: str, reason: str | None, workers: int
) -> None:
    store, now = JobStore(database), START + timedelta(hours=2)
    await limited(database, "small", max_workers=4, max_jobs=1)
    await limited(database, "open")
    for one in (
        job(0, JobState.QUEUED, reason="exceeds_cluster", workers=64, priority=2),
        job(1, JobState.QUEUED, reason="waiting_quota", workers=5, priority=2, project="small"),
        job(5, JobState.QUEUED, reason=reason, workers=workers, project=project),
        job(6, JobState.QUEUED, reason="waiting_turn", project=project),
    ):
        await store.create(one)

    found = shown(await JobGauges(database=database, store=store, clock=lambda: now).collect())

    assert found["cdm_queue_head_wait_seconds"] == {(): 115 * 60}


async def test_work_that_was_never_saved_is_no_older_than_its_job(database: Database) -> None:
    store, now = JobStore(database), START + timedelta(seconds=70)
    fork = job(1, JobState.RUNNING, progress=progress(50_000, None), heard_at=now)
    await store.create(fork)

    found = shown(await JobGauges(database=database, store=store, clock=lambda: now).collect())

    assert found["cdm_checkpoint_age_seconds"] == {(): 10}


async def test_everything_that_can_be_counted_is_there_when_there_is_nothing_to_count(database: Database) -> None:
    gauges = JobGauges(database=database, store=JobStore(database), clock=lambda: START)

    families = {family.name: family.samples for family in await gauges.collect()}

    assert all(sample.value == 0 for samples in families.values() for sample in samples)
    assert len(families["cdm_jobs"]) == 7 * 5
    assert len(families["cdm_jobs_unwell"]) == 5


async def test_what_remains_to_be_done_is_counted_by_kind_of_work_and_no_further_than_it_matters(
    database: Database,
) -> None:
    store = JobStore(database)
    for number in range(3):
        due = START + timedelta(days=2) if number == 0 else None
        await store.create(job(number, JobState.SUCCEEDED, mlflow_due_until=due, purge_due=("logs",)))

    found = shown(await BacklogGauges(database=database).collect())

    assert found["cdm_backlog"] == {("mlflow",): 1, ("record",): 3, ("purge",): 3}
    assert str(job_counts.MOST) in (await BacklogGauges(database=database).collect())[0].documentation


async def test_messages_that_wait_are_counted_and_how_late_they_are(mail: Post) -> None:
    await mail.webhook()
    gauges = DeliveryGauges(database=mail.door.database, clock=mail.clock)
    assert shown(await gauges.collect()) == {"cdm_webhook_deliveries_waiting": {}, "cdm_webhook_lag_seconds": {}}

    await mail.moved(await mail.job(), JobState.RUNNING)
    mail.clock.advance(7)

    found = shown(await gauges.collect())
    assert found == {"cdm_webhook_deliveries_waiting": {(): 2}, "cdm_webhook_lag_seconds": {(): 7}}
    await mail.delivered()
    assert shown(await gauges.collect()) == {"cdm_webhook_deliveries_waiting": {}, "cdm_webhook_lag_seconds": {}}


@pytest.mark.parametrize(("started_after", "counted"), [(timedelta(hours=1), 0), (-timedelta(hours=1), 1)])
def test_what_a_job_has_run_before_it_made_room_is_no_wait(started_after: timedelta, counted: int) -> None:
    """It kept its place in the queue; one that was resumed came into it anew."""
    registry = CollectorRegistry()
    waiting = job(0, JobState.QUEUED, started_at=START + started_after)

    Counters(registry).moved(
        waiting,
        replace(waiting, state=JobState.STARTING, started_at=START + timedelta(hours=3)),
        attempt_ended=False,
    )

    assert registry.get_sample_value("cdm_queue_wait_seconds_count") == counted
