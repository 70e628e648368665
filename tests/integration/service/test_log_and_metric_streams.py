"""Streams of logs and of metrics over a real server: whoever is cut and comes back has all of it once, in order."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from service.database import open_database
from service.jobs.lifecycle import JobState
from tests.support.watched import Watched, cut_after_each, watched


@pytest.fixture
async def live(tmp_path: Path) -> AsyncIterator[Watched]:
    async with open_database(f"sqlite:///{tmp_path / 'service.db'}") as database, watched(database) as live:
        yield live


async def test_a_client_that_is_cut_while_a_log_grows_has_each_byte_once(live: Watched) -> None:
    job = await live.job()
    path = f"/v1/jobs/{job.id}/logs/stream"
    had = asyncio.Semaphore(0)
    expected = ""
    async with asyncio.TaskGroup() as tasks:  # a reader that fails is not waited for
        reading = tasks.create_task(cut_after_each(live, path, had=had))
        for attempt in (1, 2):
            job, place = await live.begun(job), 0
            for number in range(15):
                text = f"attempt {attempt} line {number} ä\n"
                place = live.printed(job, place, text.encode())
                expected += text
                await had.acquire()
            job = await live.over(job, JobState.RECOVERING if attempt == 1 else JobState.SUCCEEDED)

    seen = reading.result()
    assert "".join(message.data["text"] for message in seen[:-1]) == expected
    assert [message.event for message in seen[:-1]] == ["log"] * 30, "it was cut behind every line"
    assert (seen[-1].event, seen[-1].data) == ("end", {"state": "succeeded"})
    assert seen[-1].id == seen[-2].id == f"2:driver:{place}"
    [again] = await live.all(path, last_id=seen[-1].id)
    assert again == seen[-1]
    first_only = await live.all(path, attempt=1)
    assert "".join(message.data.get("text", "") for message in first_only) == expected[: len(expected) // 2]
    reset, *whole = await live.all(path, attempt=1, last_id=f"2:driver:{place}")
    assert (reset.event, whole) == ("reset", first_only), "the id is of another attempt's log"


async def test_a_client_that_is_cut_while_chunks_of_a_log_wait_has_each_line_once_in_order(live: Watched) -> None:
    """All are there before it begins; some are smaller than a message, some are larger and cut within."""
    job, expected = await live.job(), ""
    for state in (JobState.RECOVERING, JobState.SUCCEEDED):
        job, place = await live.begun(job), 0
        for num_lines in (1, 8, 3, 4):
            lines = [
                f"attempt {job.attempt} byte {place} line {number} {'ä' * 100_000}\n" for number in range(num_lines)
            ]
            place = live.printed(job, place, "".join(lines).encode())
            expected += "".join(lines)
        job = await live.over(job, state)

    *seen, end = await cut_after_each(live, f"/v1/jobs/{job.id}/logs/stream", after="1:driver:0")

    assert "".join(message.data["text"] for message in seen) == expected
    assert len(seen) > 8, "it was cut within chunks, too"
    assert (end.event, end.id) == ("end", f"2:driver:{place}")


@pytest.mark.parametrize("last_id", ["", "3:driver:0", "1:engine:0", "1:driver:-1", "1:driver", "x", "1:../x:0"])
async def test_an_id_of_another_log_starts_it_again(live: Watched, last_id: str) -> None:
    job = await live.begun(await live.job())
    live.printed(job, 0, b"hello\n")
    await live.over(job, JobState.FAILED)

    seen = await live.all(f"/v1/jobs/{job.id}/logs/stream", after=last_id)

    *resets, log, end = seen
    assert [(reset.event, reset.id) for reset in resets] == ([("reset", "1:driver:0")] if last_id else [])
    assert (log.event, log.data["text"], end.event) == ("log", "hello\n", "end")


async def test_logs_of_a_job_that_never_began_end_with_it(live: Watched) -> None:
    job = await live.moved(await live.job(), JobState.CANCELLED)

    [end] = await live.all(f"/v1/jobs/{job.id}/logs/stream")

    assert (end.event, end.id) == ("end", "0:driver:0")


async def test_a_log_goes_on_behind_a_number_that_was_claimed_to_fence_the_one_before(live: Watched) -> None:
    job = await live.begun(await live.job())
    place = live.printed(job, 0, b"one\n")
    job = await live.over(job, JobState.RECOVERING)
    job = await live.begun(job, skipped=1)
    live.printed(job, 0, b"three\n")
    await live.over(job, JobState.SUCCEEDED)

    *texts, end = await live.all(f"/v1/jobs/{job.id}/logs/stream", last_id=f"1:driver:{place}")

    assert [message.data["text"] for message in texts] == ["three\n"]
    assert end.id == "3:driver:6"


async def test_a_client_that_is_cut_after_every_row_has_each_once_in_order(live: Watched) -> None:
    job = await live.job()
    path = f"/v1/jobs/{job.id}/metrics/stream"
    had = asyncio.Semaphore(0)
    async with asyncio.TaskGroup() as tasks:
        reading = tasks.create_task(cut_after_each(live, path, had=had))
        for _ in range(2):
            job = await live.begun(job)
            for chunk in range(4):
                live.measured(job, chunk, [job.attempt * 100 + chunk * 10 + row for row in range(3)])
                for _ in range(3):
                    await had.acquire()
        await live.over(job, JobState.FAILED)

    seen = reading.result()
    told = [attempt * 100 + chunk * 10 + row for attempt in (1, 2) for chunk in range(4) for row in range(3)]
    assert [message.data["images_seen"] for message in seen[:-1]] == told
    assert {message.event for message in seen[:-1]} == {"metrics"}
    assert (seen[-2].id, seen[-1].id, seen[-1].data) == ("2:3:2", "2:3:2", {"state": "failed"})
    assert [message.data for message in await live.all(path, after="2:3:1")] == [seen[-2].data, seen[-1].data]
    for unknown in ("3:0:0", "x", "1:0:-1"):
        again = await live.all(path, after=unknown)
        assert (again[0].event, again[1:]) == ("reset", seen)
        assert await live.all(path, after=again[0].id) == seen


async def test_rows_of_a_job_that_runs_end_for_those_who_do_not_follow_it(live: Watched) -> None:
    job = await live.begun(await live.job())
    live.measured(job, 0, [1, 2])

    *rows, end = await live.all(f"/v1/jobs/{job.id}/metrics/stream", follow="false")

    assert [row.data["images_seen"] for row in rows] == [1, 2]
    assert (end.event, end.data) == ("end", {"state": "running"})
