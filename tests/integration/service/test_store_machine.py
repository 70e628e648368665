"""The store of jobs against a simple model of it, by whatever a machine thinks of doing next, on both databases."""

import asyncio
from collections.abc import Coroutine
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass, field, fields, replace
from datetime import datetime, timedelta
from typing import Any, TypeVar, cast

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    invariant,
    multiple,
    rule,
    run_state_machine_as_test,
)

from service.database import Database, open_database
from service.errors import StateConflict
from service.jobs import verbs
from service.jobs.lifecycle import JobState
from service.jobs.listing import Filters
from service.jobs.records import AttemptRecord, JobRecord, QueuedJob, new_attempt
from service.jobs.rows import JOB_FIELDS
from service.jobs.store import JobStore
from tests.support.clock import ManualClock
from tests.support.fresh_databases import Databases, emptied

_Result = TypeVar("_Result")
EXAMPLES = {"sqlite": 25, "postgres": 6}
GRACE = timedelta(seconds=60)
LABELS = st.dictionaries(st.sampled_from(["team", "run"]), st.sampled_from(["a", "b"]), max_size=2)
TOKENS = st.sampled_from(["first", "second"])
VERBS = {
    "cancel": lambda job, at: verbs.cancel(job, at=at, grace=GRACE),
    "pause": lambda job, at: verbs.pause(job, at=at, grace=GRACE),
    "resume": lambda job, at: verbs.resume(job, at=at),
    "retry": lambda job, at: verbs.retry(job, at=at),
    "archive": lambda job, at: verbs.archive(job, at=at),
    "restore": lambda job, at: verbs.restore(job),
    "replay": lambda job, at: verbs.replay(job, at=at),
    "delete": lambda job, at: verbs.delete(job, at=at, purge=("logs",)),
}


@dataclass
class Row:
    """What the model knows of a job."""

    job: JobRecord
    events: list[tuple[str, JobState]] = field(default_factory=list)
    attempts: dict[int, AttemptRecord] = field(default_factory=dict)
    token: str | None = None
    until: datetime | None = None


class StoreMachine(RuleBasedStateMachine):
    """`hands`: jobs as somebody read them, who may act on them when they are out of date already."""

    hands: Bundle[JobRecord] = Bundle("hands")

    def __init__(self, url: str) -> None:
        super().__init__()
        self.url = url
        self.clock = ManualClock()
        self.rows: dict[str, Row] = {}
        self.runner = asyncio.Runner()
        self.stack = AsyncExitStack()

    def run(self, work: Coroutine[Any, Any, _Result]) -> _Result:
        return self.runner.run(work)

    @initialize()
    def open(self) -> None:
        async def fresh() -> Database:
            database = await self.stack.enter_async_context(open_database(self.url))
            await emptied(database)
            return database

        self.store = JobStore(self.run(fresh()))

    def teardown(self) -> None:
        self.run(self.stack.aclose())
        self.runner.close()

    @rule(target=hands, labels=LABELS, priority=st.integers(0, 2), project=st.sampled_from(["default", "other"]))
    def create(self, labels: dict[str, str], priority: int, project: str) -> JobRecord:
        now = self.clock()
        job = JobRecord(
            id=f"job_{len(self.rows):026d}",
            project=project,
            labels=labels,
            priority=priority,
            spec="{}",
            spec_sha256="0" * 64,
            state=JobState.QUEUED,
            created_at=now,
            queued_at=now,
        )
        assert self.run(self.store.create(job))
        assert not self.run(self.store.create(replace(job, name="again"))), "a repeated request finds the first one"
        job = replace(job, event_sequence=1)
        self.rows[job.id] = Row(job, [("created", JobState.QUEUED)])
        return job

    @rule(target=hands, hand=hands)
    def read_again(self, hand: JobRecord) -> JobRecord:
        found = self.run(self.store.find(hand.id))
        assert found
        return found

    @rule(hand=hands, seconds=st.sampled_from([1.0, 40.0]))
    def time_passes(self, hand: JobRecord, seconds: float) -> None:
        self.clock.advance(seconds)

    @rule(
        target=hands,
        hand=hands,
        state=st.sampled_from(JobState),
        events=st.lists(st.sampled_from(["state_changed", "stalled"]), max_size=2),
        lease=st.none() | TOKENS,
    )
    def move(self, hand: JobRecord, state: JobState, events: list[str], lease: str | None) -> Any:
        changed = replace(hand, state=state, message=f"now {state}")
        return self._write(hand, changed, events=events, lease=lease)

    @rule(target=hands, hand=hands, lease=st.none() | TOKENS)
    def begin(self, hand: JobRecord, lease: str | None) -> Any:
        attempt = new_attempt(hand.id, hand.attempt + 1, service="us", at=self.clock())
        changed = replace(hand, state=JobState.STARTING, attempt=attempt.number)
        return self._write(hand, changed, events=["attempt_started"], attempt=attempt, lease=lease)

    @rule(target=hands, hand=hands, labels=LABELS)
    def relabel(self, hand: JobRecord, labels: dict[str, str]) -> Any:
        return self._write(hand, replace(hand, labels=labels), events=["updated"])

    @rule(target=hands, hand=hands, verb=st.sampled_from(sorted(VERBS)))
    def ask(self, hand: JobRecord, verb: str) -> Any:
        """A user acts on what is there now."""
        job = self.rows[hand.id].job
        try:
            changed = VERBS[verb](job, self.clock())
        except StateConflict:
            return multiple()
        return self._write(job, changed, events=["state_changed"])

    @rule(token=TOKENS)
    def hold(self, token: str) -> None:
        now = self.clock()
        lasting = now + timedelta(seconds=45)
        active = [row for row in self.rows.values() if row.job.state.is_active]
        for row in active:
            if row.until is None or row.until < now or (row.token == token and row.until < lasting):
                row.token, row.until = token, now + timedelta(seconds=60)

        held = self.run(self.store.hold(token, now=now, seconds=60.0))

        ours = [row.job for row in active if row.token == token]
        assert held == sorted(ours, key=lambda job: job.id)

    @rule(token=TOKENS, hand=st.none() | hands)
    def release(self, token: str, hand: JobRecord | None) -> None:
        for row in self.rows.values():
            if row.token == token and (hand is None or hand.id == row.job.id):
                row.token = row.until = None
        self.run(self.store.release(token, hand and {hand.id}))

    @rule(
        project=st.sampled_from(["default", "other"]),
        state=st.none() | st.sampled_from(JobState),
        labels=LABELS,
        archived=st.booleans(),
        limit=st.integers(1, 4),
    )
    def page_through(
        self, project: str, state: JobState | None, labels: dict[str, str], archived: bool, limit: int
    ) -> None:
        filters = Filters(project=project, state=state, labels=tuple(labels.items()), archived=archived)
        seen: list[JobRecord] = []
        while page := self.run(self.store.page(filters, limit=limit)):
            assert len(page) <= limit
            seen += page
            filters = replace(filters, before=page[-1].id)

        fitting = [
            row.job
            for row in self.rows.values()
            if row.job.project == project
            and state in {None, row.job.state}
            and labels.items() <= row.job.labels.items()
            and archived is (row.job.archived_at is not None)
            and row.job.deleted_at is None
        ]
        assert seen == sorted(fitting, key=lambda job: job.id, reverse=True)

    @invariant()
    def what_is_written_is_what_is_read(self) -> None:
        for job_id, row in self.rows.items():
            assert self.run(self.store.find(job_id)) == row.job
            events = self.run(self.store.events(job_id, after=0, limit=1000))
            assert [event.sequence for event in events] == list(range(1, len(row.events) + 1))
            assert [(event.type, event.state) for event in events] == row.events
            assert self.run(self.store.attempts(job_id)) == [row.attempts[number] for number in sorted(row.attempts)]
        assert self.run(self.store.sequences(list(self.rows))) == {
            job_id: len(row.events) for job_id, row in self.rows.items()
        }

    @invariant()
    def the_queue_is_in_order(self) -> None:
        waiting = [row.job for row in self.rows.values() if row.job.state is JobState.QUEUED]
        waiting.sort(key=lambda job: (-job.priority, job.queued_at, job.id))
        queue = self.run(self.store.queue(limit=100))
        assert [asdict(each) for each in queue] == [
            {field.name: getattr(job, field.name) for field in fields(QueuedJob)} for job in waiting
        ]
        for place, job in enumerate(waiting):
            assert self.run(self.store.ahead(job)) == place

    def _write(
        self,
        hand: JobRecord,
        changed: JobRecord,
        *,
        events: list[str],
        attempt: AttemptRecord | None = None,
        lease: str | None = None,
    ) -> Any:
        """What was read, changed and written: all of it, or nothing if the job has moved on or the lease has."""
        row = self.rows[hand.id]
        same = (row.job.state, row.job.attempt) == (hand.state, hand.attempt)
        same = same and (not events or row.job.event_sequence == hand.event_sequence)
        changed = replace(changed, event_sequence=hand.event_sequence + len(events))
        differs = {name: getattr(changed, name) for name in JOB_FIELDS if getattr(changed, name) != getattr(hand, name)}
        may = same and (lease is None or row.token == lease)

        written = self.run(
            self.store.apply(
                hand,
                changed,
                events=events,
                at=self.clock(),
                attempt=attempt,
                lease=lease,
            )
        )

        if not may and (differs or attempt):
            assert written is None
            return multiple()
        assert written == changed
        if hand.state.is_active and not changed.state.is_active:
            row.token = row.until = None
        if differs:
            row.job = replace(row.job, **differs)
        row.events += [(kind, changed.state) for kind in events]
        if attempt:
            row.attempts[attempt.number] = attempt
        return row.job


@pytest.mark.timeout(300)
def test_the_store_does_what_its_model_does(databases: Databases) -> None:
    url = databases.migrated()
    run_state_machine_as_test(
        cast("type[StoreMachine]", lambda: StoreMachine(url)),  # it calls whatever it is given
        settings=settings(
            max_examples=EXAMPLES["sqlite" if "sqlite" in url else "postgres"],
            stateful_step_count=25,
            deadline=None,
            derandomize=True,
            phases=[Phase.generate],  # a smaller case of what fails would be found in minutes
            suppress_health_check=list(HealthCheck),
        ),
    )
