"""Lists of jobs on both databases: what fits the filters, page by page, and by an index however many jobs there are."""

import random
import re
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, event

from service.cluster.base import NO_RESOURCES, Resources
from service.database import Database, open_database
from service.database.tables import projects
from service.datasets.store import DatasetStore
from service.identifiers import new_id
from service.jobs import job_counts, views
from service.jobs.lifecycle import JobState
from service.jobs.listing import Filters
from service.jobs.presentation import job_view
from service.jobs.records import JobRecord, with_condition
from service.jobs.store import JobStore
from service.keys.store import AuditFilter, KeyStore
from tests.support.fresh_databases import SqliteFiles
from workers.contract.presets import PRESETS
from workers.contract.records import Progress

START = datetime(2026, 11, 1, tzinfo=UTC)
PROGRESS = Progress.model_validate(
    {
        "phase": "training",
        "images_seen": 64,
        "total_images": 320,
        "images_per_second": 10.0,
        "eta_seconds": 22.0,
        "losses": {"dsm": 0.5},
        "last_checkpoint_images": None,
        "num_workers": 2,
        "mlflow_run_id": "run1",
        "updated_at": START,
    }
)


def made(number: int) -> JobRecord:
    """A job of which much is decided by chance, the same each time."""
    chance, at = random.Random(number), START + timedelta(minutes=number)  # noqa: S311
    return JobRecord(
        id=new_id("job", at=at),
        project=chance.choice(["default", "other"]),
        name=chance.choice([None, f"job {number}", "twin"]),
        labels={key: chance.choice("xyz") for key in chance.sample(["team", "sweep"], chance.randrange(3))},
        kind=("train", "sample", "evaluate", "train")[number % 4],
        spec=PRESETS["smoke"].model_dump_json(),
        spec_sha256="0" * 64,
        state=chance.choice([JobState.QUEUED, JobState.SUCCEEDED, JobState.FAILED]),
        created_at=at,
        archived_at=chance.choice([None, None, at]),
        deleted_at=chance.choice([None, None, None, at]),
        owner=chance.choice([None, "bootstrap", "key_1"]),
    )


async def test_pages_hold_what_fits_the_filters_newest_first(database: Database) -> None:
    store, jobs = JobStore(database), [made(number) for number in range(60)]
    for job in jobs:
        await store.create(job)
    early = jobs[30].id[:10]  # about a quarter of an hour
    assert 2 < sum(job.id.startswith(early) for job in jobs) < 30
    wanted: list[tuple[Filters, Callable[[JobRecord], bool]]] = [
        (Filters(project="default"), lambda job: True),
        (Filters(project="default", state=JobState.FAILED), lambda job: job.state is JobState.FAILED),
        (Filters(project="default", labels=(("team", "x"),)), lambda job: job.labels.get("team") == "x"),
        (
            Filters(project="default", labels=(("team", "x"), ("sweep", "y"))),
            lambda job: job.labels == {"team": "x", "sweep": "y"},
        ),
        (Filters(project="default", labels=(("team", "nobody"),)), lambda job: False),
        (
            Filters(project="default", created_after=START + timedelta(minutes=40)),
            lambda job: job.created_at > START + timedelta(minutes=40),
        ),
        (Filters(project="default", created_after=datetime(1970, 1, 1, tzinfo=UTC)), lambda job: True),
        (Filters(project="default", archived=True), lambda job: True),
        (Filters(project="default", kind="sample"), lambda job: job.kind == "sample"),
        (Filters(project="default", kind="compare"), lambda job: False),
        (Filters(project=None), lambda job: True),
        (Filters(project=None, kind="sample", archived=True), lambda job: job.kind == "sample"),
        (Filters(project="default", owner="key_1"), lambda job: job.owner == "key_1"),
        (Filters(project="default", owner="key_2"), lambda job: False),
        (Filters(project=jobs[7].project, name="twin"), lambda job: job.name == "twin"),
        (Filters(project=None, name="twin", archived=True), lambda job: job.name == "twin"),
        (Filters(project="default", name="nobody"), lambda job: False),
        (Filters(project="default", id_prefix=early), lambda job: job.id.startswith(early)),
        (Filters(project=None, id_prefix=jobs[0].id), lambda job: job.id == jobs[0].id),
        (
            Filters(project=None, id_prefix=early, name="twin", labels=(("team", "x"),)),
            lambda job: job.id.startswith(early) and (job.name, job.labels.get("team")) == ("twin", "x"),
        ),
        (
            Filters(project=None, owner="bootstrap", state=JobState.FAILED, labels=(("team", "x"),)),
            lambda job: (job.owner, job.state, job.labels.get("team")) == ("bootstrap", JobState.FAILED, "x"),
        ),
        (
            Filters(project="default", kind="train", state=JobState.FAILED, labels=(("team", "x"),)),
            lambda job: (job.kind, job.state, job.labels.get("team")) == ("train", JobState.FAILED, "x"),
        ),
    ]

    for filters, fits in wanted:
        found: list[str] = []
        while page := await store.page(replace(filters, before=found[-1] if found else None), limit=3):
            found += [job.id for job in page]

        expected = [
            job.id
            for job in reversed(jobs)
            if filters.project in {None, job.project}
            and not job.deleted_at
            and bool(job.archived_at) == filters.archived
            and fits(job)
        ]
        assert found == expected, filters


async def test_however_many_jobs_of_one_project_wait_the_first_of_every_other_are_seen(database: Database) -> None:
    store = JobStore(database)
    waiting = [
        replace(made(number), state=JobState.QUEUED, project=project, accelerator=accelerator, queued_at=START)
        for number, (project, accelerator) in enumerate([*[("big", "cpu")] * 5, ("big", "gpu"), ("small", "cpu")])
    ]
    urgent = replace(made(50), state=JobState.QUEUED, project="big", accelerator="cpu", queued_at=START, priority=2)
    for job in (*waiting, urgent):
        await store.create(job)

    found = await store.contenders(most=2, total=Resources(cpus=1.0, gpus=1.0))

    assert {job.id for job in found} == {job.id for job in (urgent, waiting[0], waiting[5], waiting[6])}


@pytest.mark.parametrize("max_workers", [None, 2])
async def test_however_many_jobs_can_never_start_those_behind_them_that_can_are_seen(
    database: Database, max_workers: int | None
) -> None:
    """Of an accelerator, by what the cluster has of it or by what the project may have."""
    store = JobStore(database)
    row = {"name": "default", "max_workers": max_workers, "created_at": START}
    async with database.writing() as connection:
        await connection.execute(database.insert(projects).values(row))
    first = replace(made(0), project="default", state=JobState.QUEUED, queued_at=START)
    wanted = [(4, "gpu"), (3, "gpu"), (5, "gpu"), (1, "gpu"), (2, "gpu"), (4, "cpu"), (2, "cpu")]
    for number, (workers, accelerator) in enumerate(wanted):
        await store.create(replace(first, id=f"job_{number}", workers=workers, accelerator=accelerator))
    total = Resources(cpus=100.0, gpus=2.0 if max_workers is None else 100.0)

    found = await store.contenders(most=1, total=total)

    assert sorted(job.id for job in found) == ["job_0", "job_3", "job_5", *(["job_6"] if max_workers else [])]


async def test_however_many_jobs_of_others_wait_before_them_a_project_sees_its_own_and_their_places(
    database: Database,
) -> None:
    store = JobStore(database)
    waiting = [
        replace(made(number), state=JobState.QUEUED, project=project, queued_at=START + timedelta(minutes=number))
        for number, project in enumerate(["big"] * 5 + ["small", "big", "small", "small"])
    ]
    urgent = replace(made(50), state=JobState.QUEUED, project="small", queued_at=START, priority=2)
    ended = replace(made(51), state=JobState.SUCCEEDED, project="small", queued_at=START)
    for job in (*waiting, urgent, ended):
        await store.create(job)

    found, all_of_them = await store.queue_of("small", limit=3), await store.queue_of(None, limit=100)

    assert [(place, job.id) for place, job in found] == [(1, urgent.id), (7, waiting[5].id), (9, waiting[7].id)]
    assert [place for place, _ in all_of_them] == list(range(1, len(waiting) + 2))
    assert [one for one in all_of_them if one[1].project == "small"][:3] == found
    for place, job in found:
        shown = await store.find(job.id)
        assert shown
        assert await store.ahead(shown) + 1 == place


async def test_why_jobs_wait_is_said_of_those_that_still_do(database: Database) -> None:
    store = JobStore(database)
    waiting, gone = replace(made(1), state=JobState.QUEUED), replace(made(2), state=JobState.CANCELLED)
    for job in (waiting, gone):
        await store.create(job)

    async with store.writing() as connection:
        await store.explain(connection, {job.id: ("waiting_turn", "1 is before it") for job in (waiting, gone)})

    said = {
        job.id: (job.reason, job.message) for job in [await store.find(waiting.id), await store.find(gone.id)] if job
    }
    assert said == {waiting.id: ("waiting_turn", "1 is before it"), gone.id: (None, None)}


def test_a_job_is_written_as_its_view_has_it() -> None:
    running = replace(
        made(3), state=JobState.RUNNING, progress=PROGRESS, parent_job_id="job_1", mlflow_experiment_id="7"
    )
    running = replace(running, evaluations=views.EvaluateEach(repeats=2).model_dump_json())

    for job in (with_condition(running, "Progressing", status=False, message='"so"', at=START), made(4)):
        shown = job_view(job, mlflow_url="http://mlflow/")
        read = views.Job.model_validate_json(shown.model_dump_json())
        assert read.model_dump_json() == shown.model_dump_json()
        assert (read.spec.model_dump_json(), read.progress) == (job.spec, job.progress)


async def test_no_question_that_is_asked_all_the_time_reads_the_whole_table(tmp_path: Path) -> None:
    """With a hundred thousand jobs each would take a tenth of a second, every second.

    Of SQLite, which plans without knowing what is in the table; an empty one of Postgres says nothing.
    """
    async with open_database(SqliteFiles(tmp_path).migrated()) as database:
        store = JobStore(database)
        with statements() as asked:
            await store.queue(limit=500)
            await store.contenders(most=200, total=NO_RESOURCES)
            await store.ahead(made(1))
            await store.active()
            await store.queue_of(None, limit=500)
            await job_counts.groups(database)
            await job_counts.head_since(database)
            await job_counts.backlogs(database)
            await store.hold("lease", now=START, seconds=60)
            await store.release("lease")
            await store.with_mlflow_due()
            await store.with_experiment_due()
            await store.with_record_due()
            await store.with_purge_due()
            await store.with_evaluations_due()
            await store.with_comparison_due()
            await store.labelled_unfinished("default", "team", ["x", "y"])
            await store.with_dataset_due()
            await store.with_dataset_due(project="default")
            await store.with_log_due()
            await store.usage(None, since=START, until=START + timedelta(days=1))
            await store.usage("default", since=START, until=START + timedelta(days=1))
            await DatasetStore(database).is_known("1a" * 32)
            keys = KeyStore(database)
            day = AuditFilter(since=START, until=START + timedelta(days=1))
            for wanted in (
                AuditFilter(actor="key_1"),
                AuditFilter(target="job_1"),
                AuditFilter(project="default"),
                day,
            ):
                await keys.audit(wanted, before=None, limit=51)
            for filters in (
                Filters(project="default"),
                Filters(project="default", state=JobState.PAUSED),
                Filters(project="default", archived=True),
                Filters(project="default", kind="sample"),
                Filters(project="default", owner="key_1"),
                Filters(project="default", name="mine"),
                Filters(project="default", id_prefix="job_01"),
                Filters(project=None, name="mine"),
                Filters(project=None),
                Filters(project=None, archived=True),
                Filters(project=None, kind="sample"),
                Filters(project=None, owner="key_1"),
                Filters(project=None, state=JobState.PAUSED),
                Filters(project="default", labels=(("team", "x"),)),
                Filters(project="default", created_after=START, before="job_1"),
            ):
                await store.page(filters, limit=51)

        async with database.reading() as connection:
            for statement, parameters in asked:
                plan = await connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)
                steps = [row.detail for row in plan]
                assert not [step for step in steps if step in {"SCAN jobs", "SCAN attempts", "SCAN audit"}], (
                    statement,
                    steps,
                )
                for due in re.findall(r"WHERE.*\bjobs\.(\w+_due)\b", " ".join(statement.split())):
                    assert any(f"jobs_by_{due}" in step for step in steps), (statement, steps)
                if "jobs.archived_at IS NOT NULL" in statement:
                    assert any("jobs_archived" in step for step in steps), (statement, steps)
                for column in re.findall(r"\bjobs\.(kind|owner|name) =", statement):
                    assert any(f"jobs_by_{column}" in step for step in steps), (statement, steps)
                assert "state =" not in statement or "USE TEMP B-TREE FOR ORDER BY" not in steps, (statement, steps)
        assert len(asked) > 14


Ask = Callable[[Database], Awaitable[object]]


def page(**filters: Any) -> Ask:
    return lambda database: JobStore(database).page(Filters(**filters), limit=51)


FEWEST: dict[str, tuple[Ask, str]] = {
    "a state and a kind": (
        page(project="default", state=JobState.RUNNING, kind="train"),
        "jobs_by_project_and_state",
    ),
    "a state and an owner": (page(project=None, state=JobState.PAUSED, owner="key_1"), "jobs_by_state"),
    "an end and a kind": (page(project=None, state=JobState.FAILED, kind="compare"), "jobs_by_kind_of_all"),
    "archived and an end": (page(project=None, state=JobState.FAILED, archived=True), "jobs_archived_of_all"),
    "archived and a kind": (page(project="default", kind="train", archived=True), "jobs_archived"),
    "two labels": (page(project="default", labels=(("team", "x"), ("sweep", "y"))), "job_labels_by_value"),
    "no data set yet": (lambda database: JobStore(database).with_dataset_due(), "jobs_by_dataset_due"),
    "no data set yet, in a project": (
        lambda database: JobStore(database).with_dataset_due(project="default"),
        "jobs_by_dataset_due",
    ),
    "a data set to come": (lambda database: DatasetStore(database).may_appear("1a" * 32), "jobs_by_dataset_due"),
    "like jobs": (lambda database: JobStore(database).like("1a" * 32), "jobs_by_cost"),
}


@pytest.mark.parametrize(("ask", "index"), FEWEST.values(), ids=FEWEST)
async def test_of_several_indexes_that_is_taken_which_leads_to_the_fewest_jobs_and_none_is_sorted_in_vain(
    tmp_path: Path, ask: Ask, index: str
) -> None:
    """SQLite does not know that most jobs are trainings that have ended; Postgres does."""
    async with open_database(SqliteFiles(tmp_path).migrated()) as database:
        with statements() as asked:
            await ask(database)
        statement, parameters = asked[-1]
        async with database.reading() as connection:
            plan = await connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)
            steps = [row.detail for row in plan]

    assert re.search(rf"INDEX {index}\b", next(step for step in steps if " INDEX " in step)), steps
    assert "USE TEMP B-TREE FOR ORDER BY" not in steps


@contextmanager
def statements() -> Iterator[list[tuple[str, Any]]]:
    """What is asked of a database in the block, and with which parameters."""
    asked: list[tuple[str, Any]] = []

    def note(_c: Connection, _k: object, statement: str, parameters: Any, _x: object, _m: object) -> None:
        asked.append((statement, parameters))

    event.listen(Engine, "before_cursor_execute", note)
    try:
        yield asked
    finally:
        event.remove(Engine, "before_cursor_execute", note)
