"""Streams over a real server: whoever is cut and comes back has every message once, in order."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import delete

from service.clock import utc_now
from service.database import Database, open_database
from service.database.tables import events
from service.errors import DatabaseUnavailable
from service.jobs.lifecycle import JobState
from service.jobs.records import JobRecord
from service.jobs.store import JobStore
from service.streams.feed import Feed
from tests.support.plane import DEADLINE_SECONDS, eventually
from tests.support.watched import Message, Watched, cut_after_each, watched


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    async with open_database(f"sqlite:///{tmp_path / 'service.db'}") as database:
        yield database


@pytest.fixture
async def live(database: Database) -> AsyncIterator[Watched]:
    async with watched(database) as live:
        yield live


async def watchers(live: Watched, number: int) -> None:
    async def are_there() -> bool:
        return live.streams.open_of.total() == number

    await eventually(are_there, what=f"{number} streams are open")


def numbers(messages: Sequence[Message]) -> list[int]:
    return [message.data["sequence"] for message in messages if message.event not in {"snapshot", "reset", "end"}]


async def test_a_client_that_is_cut_after_every_event_has_each_once_in_order(database_url: str) -> None:
    async with open_database(database_url) as database, watched(database) as live:
        job = await live.job()

        async def write(job: JobRecord, store: JobStore) -> None:
            for number in range(58):
                state = (JobState.RUNNING, JobState.RECOVERING)[number % 2]
                job = await live.moved(job, state, store=store)
                await asyncio.sleep(0)
            await live.moved(job, JobState.SUCCEEDED, store=store)

        path = f"/v1/jobs/{job.id}/events/stream"
        reading = asyncio.create_task(cut_after_each(live, path))
        late = asyncio.create_task(cut_after_each(live, path, after=0))
        if database.dialect == "postgresql":
            async with open_database(database_url) as replica:  # the events are another process's
                await write(job, JobStore(replica))
        else:
            await write(job, live.jobs)
        seen, seen_late = await reading, await late

        total = 60
        assert seen[0].event == "snapshot"
        assert numbers(seen) == list(range(int(seen[0].id or 0) + 1, total + 1))
        assert numbers(seen_late) == list(range(1, total + 1))
        assert [message.event for message in seen].count("end") == 1
        assert seen[-1].data == {"state": "succeeded"}
        await watchers(live, 0)


async def test_the_first_message_is_the_whole_job_and_the_last_one_says_so(live: Watched) -> None:
    job = await live.moved(await live.job(name="first"), JobState.RUNNING)
    path = f"/v1/jobs/{job.id}/events/stream"
    messages = live.messages(path)
    snapshot = await anext(messages)
    await live.moved(job, JobState.FAILED)
    event, end = [message async for message in messages]

    assert (snapshot.event, snapshot.id) == ("snapshot", "2")
    assert (snapshot.data["name"], snapshot.data["state"], snapshot.data["id"]) == ("first", "running", job.id)
    assert (event.event, event.id, event.data["state"]) == ("state_changed", "3", "failed")
    assert (end.event, end.id, end.data) == ("end", "3", {"state": "failed"})
    assert await live.all(path, last_id="3") == [end]
    assert await live.all(path, after="3") == [end]
    assert [message.id for message in await live.all(path, last_id="1", after="3")] == ["2", "3", "3"]


@pytest.mark.parametrize("last_id", ["3", "-1", "1.5", "many", "1" * 30, "²"])
async def test_an_id_that_is_not_of_this_job_brings_the_whole_job_again(live: Watched, last_id: str) -> None:
    job = await live.moved(await live.job(), JobState.RUNNING)

    message = await live.first(f"/v1/jobs/{job.id}/events/stream", after=last_id)

    assert (message.event, message.id, message.data["state"]) == ("reset", "2", "running")


async def test_events_that_were_lost_bring_the_whole_job_again(live: Watched, database: Database) -> None:
    job = await live.moved(await live.job(), JobState.RUNNING)
    async with database.writing() as connection:
        await connection.execute(delete(events).where(events.c.sequence == 1))

    message = await live.first(f"/v1/jobs/{job.id}/events/stream", last_id="0")

    assert (message.event, message.id) == ("reset", "2")


async def test_what_happened_after_the_end_is_told_before_the_stream_ends(live: Watched) -> None:
    job = await live.moved(await live.job(), JobState.SUCCEEDED)
    await live.jobs.apply(job, job, events=["archived"], at=utc_now())

    seen = await live.all(f"/v1/jobs/{job.id}/events/stream", last_id="1")

    assert [message.event for message in seen] == ["state_changed", "archived", "end"]
    seen = await live.all(f"/v1/jobs/{job.id}/events/stream", last_id="2")
    assert [message.event for message in seen] == ["archived", "end"]


async def test_a_retried_job_is_told_of_again(live: Watched) -> None:
    job = await live.moved(await live.job(), JobState.FAILED)
    path = f"/v1/jobs/{job.id}/events/stream"
    assert (await live.all(path))[-1].event == "end"

    job = await live.moved(job, JobState.QUEUED)

    assert (await live.first(path, last_id="2")).data["state"] == "queued"


async def test_many_watchers_cost_one_small_query_at_a_time(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks, tick = 0, Feed.tick

    async def counted(self: Feed) -> bool:
        nonlocal looks
        looks += 1
        return await tick(self)

    class Counting(JobStore):
        asked: int = 0
        read: int = 0

        async def sequences(self, job_ids: Sequence[str]) -> dict[str, int]:
            self.asked += 1
            return await super().sequences(job_ids)

        async def events(self, job_id: str, *, after: int, limit: int) -> Any:
            self.read += 1
            return await super().events(job_id, after=after, limit=limit)

    monkeypatch.setattr(Feed, "tick", counted)
    store = Counting(database)
    async with watched(database, store=store) as live:
        jobs = [await live.job(), await live.job()]
        readings = [
            asyncio.create_task(live.all(f"/v1/jobs/{jobs[number % 2].id}/events/stream")) for number in range(60)
        ]
        await watchers(live, 60)
        asked, looked = store.asked, looks
        for job in jobs:
            for state in (JobState.STARTING, JobState.RUNNING, JobState.SUCCEEDED):
                job = await live.moved(job, state)
        seen = await asyncio.gather(*readings)

        assert all(messages[-1].id == "4" for messages in seen)
        assert 0 < store.asked - asked <= looks - looked + 1, "one of them had begun before"
        assert store.read <= 6


async def test_what_is_not_there_is_a_problem_and_no_stream(live: Watched) -> None:
    job = await live.job()
    for path, code in (
        ("/v1/jobs/job_none/events/stream", "job_not_found"),
        ("/v1/jobs/job_none/logs/stream", "job_not_found"),
        ("/v1/jobs/job_none/metrics/stream", "job_not_found"),
        (f"/v1/jobs/{job.id}/logs/stream?attempt=1", "attempt_not_found"),
        (f"/v1/jobs/{job.id}/logs/stream?source=x", "validation_failed"),
    ):
        answer = await live.api.get(path)
        assert answer.json()["code"] == code
        assert answer.headers["Content-Type"] == "application/problem+json"
    assert live.streams.open_of.total() == 0


async def test_streams_beyond_the_limit_are_refused_and_a_client_that_leaves_makes_room(database: Database) -> None:
    async with watched(database, max_streams=1) as live:
        job = await live.job()
        path = f"/v1/jobs/{job.id}/events/stream"
        open_one = live.messages(path)
        await anext(open_one)

        refused = await live.api.get(path)
        assert (refused.status_code, refused.json()["code"]) == (503, "too_many_streams")
        assert int(refused.headers["Retry-After"]) > 0

        await open_one.aclose()
        await watchers(live, 0)
        assert (await live.first(path)).event == "snapshot"


async def test_one_project_does_not_take_the_places_of_others(database: Database) -> None:
    async with watched(database, max_of_project=1) as live:
        ours, theirs = await live.job(), await live.job(project="theirs")
        watching = live.messages(f"/v1/jobs/{ours.id}/events/stream")
        await anext(watching)

        refused = await live.api.get(f"/v1/jobs/{ours.id}/events/stream")

        assert (refused.status_code, refused.json()["code"]) == (503, "too_many_streams")
        with live.streams.place(theirs.project):
            assert live.streams.open_of == {"default": 1, "theirs": 1}
        await watching.aclose()


async def test_silence_is_filled_with_comments(database: Database) -> None:
    async with watched(database, ping_seconds=0.01) as live:
        job = await live.job()
        messages = live.messages(f"/v1/jobs/{job.id}/events/stream", after="1")
        assert await anext(messages) == Message(comment="ping")
        await messages.aclose()


async def test_nobody_on_the_way_may_keep_or_collect_a_stream(live: Watched) -> None:
    job = await live.moved(await live.job(), JobState.CANCELLED)

    answer = await live.api.get(f"/v1/jobs/{job.id}/events/stream")

    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.headers["X-Accel-Buffering"] == "no"
    assert answer.text.startswith("retry: 3000\n\nevent: snapshot\ndata: {")


async def test_when_the_process_is_told_to_end_its_streams_end_first(database: Database) -> None:
    told: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, _: told.append(number))
    try:
        async with watched(database) as live:
            job = await live.job()
            reading = asyncio.create_task(live.all(f"/v1/jobs/{job.id}/events/stream"))
            await watchers(live, 1)
            os.kill(os.getpid(), signal.SIGTERM)
            async with asyncio.timeout(DEADLINE_SECONDS):
                await live.serving
            assert (await reading)[0].event == "snapshot"
        assert told == [signal.SIGTERM]
    finally:
        signal.signal(signal.SIGTERM, before)


async def test_streams_outlast_an_outage_of_the_database(database: Database) -> None:
    class Failing(JobStore):
        down = False
        refused = 0

        async def sequences(self, job_ids: Sequence[str]) -> dict[str, int]:
            if self.down:
                self.refused += 1
                raise DatabaseUnavailable("no connection")
            return await super().sequences(job_ids)

    store = Failing(database)
    async with watched(database, store=store) as live:
        job = await live.job()
        messages = live.messages(f"/v1/jobs/{job.id}/events/stream")
        await anext(messages)
        store.down = True

        async def felt() -> bool:
            return store.refused > 1

        await eventually(felt, what="the feed has asked in vain")
        await live.moved(job, JobState.CANCELLED)
        store.down = False

        assert [(message.event, message.id) async for message in messages] == [("state_changed", "2"), ("end", "2")]
