"""Curves with fewer points that look the same, and rows that come once each, in order."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx2
import pytest
from fastapi.sse import ServerSentEvent
from hypothesis import given, settings
from hypothesis import strategies as st

from service.errors import DatabaseUnavailable, MlflowUnavailable
from service.jobs.lifecycle import JobState
from service.jobs.objects import JobObjects
from service.jobs.records import JobRecord
from service.metrics.downsampling import down_sample
from service.metrics.tail import Cursor, Tail
from service.mlflow import Mlflow, Point
from service.streams.metrics import metric_messages
from service.streams.response import PING, Messages
from service.streams.shutdown import Closing
from service.streams.views import END, METRICS
from tests.support.jobs import job
from workers.contract.keys import JobKeys
from workers.storage.memory import MemoryStore
from workers.tracking.events import Metrics
from workers.tracking.journal import Journal

JOB = "job_1"


def curve(values: Sequence[float | None]) -> list[Point]:
    return [Point(images_seen=64 * index, value=value, time_ms=index) for index, value in enumerate(values)]


CURVES = st.lists(st.floats(-1e6, 1e6), max_size=300).map(curve)
BROKEN_CURVES = st.lists(st.none() | st.floats(-1e6, 1e6), max_size=300).map(curve)


@settings(deadline=None)
@given(BROKEN_CURVES, st.integers(3, 100))
def test_points_are_chosen_in_order_never_invented_and_no_more_than_asked_for(
    points: list[Point], max_points: int
) -> None:
    kept = down_sample(points, max_points)

    assert len(kept) == min(len(points), max_points)
    steps = [point.images_seen for point in kept]
    assert steps == sorted(set(steps))
    assert all(point == points[point.images_seen // 64] for point in kept)


@settings(deadline=None)
@given(CURVES, st.integers(3, 100))
def test_both_ends_stay(points: list[Point], max_points: int) -> None:
    kept = down_sample(points, max_points)

    assert (kept[:1], kept[-1:]) == (points[:1], points[-1:])


@settings(deadline=None)
@given(st.integers(20, 300), st.data(), st.sampled_from([-5.0, 5.0]))
def test_a_spike_stays(length: int, data: st.DataObject, height: float) -> None:
    values = [0.0] * length
    place = data.draw(st.integers(0, length - 1))
    values[place] = height

    assert height in [point.value for point in down_sample(curve(values), data.draw(st.integers(3, length)))]


@settings(deadline=None)
@given(st.integers(20, 300), st.data())
def test_a_rare_value_that_is_not_a_number_stays(length: int, data: st.DataObject) -> None:
    values: list[float | None] = [float(index) for index in range(length)]
    values[data.draw(st.integers(0, length - 1))] = None

    assert None in [point.value for point in down_sample(curve(values), data.draw(st.integers(4, length)))]


def test_a_sine_keeps_its_extremes() -> None:
    values = [math.sin(index / 1000 * 2 * math.pi * 5) for index in range(1000)]

    kept = [point.value for point in down_sample(curve(values), 60)]

    assert max(value for value in kept if value is not None) > 0.99
    assert min(value for value in kept if value is not None) < -0.99


def test_a_curve_without_a_single_number_is_thinned_too() -> None:
    assert len(down_sample(curve([None] * 100), 10)) == 10


@pytest.mark.parametrize(
    "answer",
    [
        httpx2.Response(503),
        httpx2.Response(404, json={"error_code": "RESOURCE_DOES_NOT_EXIST"}),
        httpx2.Response(200, text="<html>"),
        httpx2.Response(200, json=[1]),
        httpx2.Response(200, json={"metrics": [{"key": "a", "value": "?", "timestamp": 1}]}),
        httpx2.ConnectError("refused"),
    ],
)
async def test_whatever_mlflow_answers_but_metrics_is_a_refusal_to_try_again(
    answer: httpx2.Response | Exception,
) -> None:
    def handle(request: httpx2.Request) -> httpx2.Response:
        if isinstance(answer, Exception):
            raise answer
        return answer

    mlflow = Mlflow("http://mlflow.test", transport=httpx2.MockTransport(handle))

    with pytest.raises(MlflowUnavailable) as refused:
        await mlflow.history("run", "a")
    assert refused.value.retry_after_seconds > 0
    with pytest.raises(MlflowUnavailable):
        await mlflow.latest("run")


class CountingStore(MemoryStore):
    """Says what was read, and fails while it is `down`."""

    def __init__(self) -> None:
        super().__init__()
        self.read: list[str] = []
        self.down = False

    def get(self, key: str) -> bytes:
        self.read.append(key)
        if self.down:
            raise ConnectionError
        return super().get(key)


@dataclass
class Live:
    """A job that runs, and the one who follows it."""

    store: CountingStore = field(default_factory=CountingStore)
    attempt: int = 1
    is_over: bool = False

    async def read_job(self) -> JobRecord:
        return job(JobState.SUCCEEDED if self.is_over else JobState.RUNNING, id=JOB, attempt=self.attempt)

    def stream(self, last_id: str | None = None, *, waits: bool = True) -> Messages:
        """A comment tells that there is nothing new."""
        return metric_messages(
            job(id=JOB, attempt=self.attempt),
            last_id,
            closing=Closing(),
            object_store=self.store,
            read_job=self.read_job,
            waits=waits,
            ping_seconds=0.0,
            poll_seconds=0.0,
        )

    def write(self, *images_seen: int, attempt: int = 1) -> None:
        """One chunk, by a worker that has just started."""
        events = [Metrics(seen, 1_700_000_000.0 + seen, {"loss/dsm": seen / 64}) for seen in images_seen]
        Journal(self.store, JobKeys(JOB), attempt).deliver([*events])

    async def until_caught_up(self, last_id: str | None = None) -> list[ServerSentEvent]:
        found: list[ServerSentEvent] = []
        async for message in self.stream(last_id):
            if message.event != METRICS:
                break
            found.append(message)
        return found


def row_of(message: ServerSentEvent) -> dict[str, Any]:
    assert message.event == METRICS
    row: dict[str, Any] = json.loads(str(message.raw_data), parse_constant=pytest.fail)
    return row


def seen(messages: Sequence[ServerSentEvent]) -> list[int]:
    return [row_of(message)["images_seen"] for message in messages]


async def test_rows_come_once_each_and_in_order_from_wherever_one_was_cut() -> None:
    live = Live(attempt=3)
    for number in range(40):
        live.write(2 * number, 2 * number + 1)
    live.write(60, 61, attempt=3)  # the second attempt wrote nothing

    whole = await live.until_caught_up()

    assert seen(whole) == [*range(80), 60, 61]
    assert [message.id for message in whole[:3]] == ["1:0:0", "1:0:1", "1:1:0"]
    assert {row_of(message)["attempt"] for message in whole[80:]} == {3}
    for index, message in enumerate(whole):
        assert await live.until_caught_up(message.id) == whole[index + 1 :]


async def test_only_what_is_new_is_read_again() -> None:
    live = Live()
    for number in range(50):
        live.write(number)
    stream = live.stream()
    found: list[int] = []
    while (message := await anext(stream)) != PING:
        found += seen([message])

    live.store.read.clear()
    assert await anext(stream) == PING
    live.write(50)
    assert seen([await anext(stream)]) == [50]

    assert found == list(range(50))
    assert len(live.store.read) <= 4


async def test_the_stream_ends_with_the_job_and_not_before_its_last_row() -> None:
    live = Live()
    live.write(1)
    stream = live.stream()

    assert seen([await anext(stream)]) == [1]
    assert await anext(stream) == PING
    live.write(2)
    live.is_over = True
    assert seen([await anext(stream)]) == [2]
    assert (await anext(stream)).event == END
    with pytest.raises(StopAsyncIteration):
        await anext(stream)


async def test_who_does_not_wait_gets_what_there_is_of_all_attempts() -> None:
    live = Live(attempt=2)
    live.write(1, 2)
    live.write(3)
    live.write(2, attempt=2)

    *rows, end = [message async for message in live.stream(waits=False)]

    assert seen(rows) == [1, 2, 3, 2]
    assert end.event == END


async def test_rows_that_a_repeated_write_added_to_a_chunk_are_not_lost() -> None:
    live = Live()
    live.write(1)
    stream = live.stream()
    assert seen([await anext(stream)]) == [1]

    key = JobKeys(JOB).attempt(1).metrics_chunk(0)
    first = MemoryStore.get(live.store, key)
    live.store.put(key, first + json.dumps({"images_seen": 2, "time": 0.0, "loss/dsm": 0.5}).encode() + b"\n")
    live.write(3)

    assert seen([await anext(stream), await anext(stream)]) == [2, 3]


async def test_an_outage_of_the_store_is_silence() -> None:
    live = Live()
    live.write(1)
    live.store.down = True
    stream = live.stream()

    assert await anext(stream) == PING
    live.store.down = False
    assert seen([await anext(stream)]) == [1]


async def test_an_outage_of_the_database_is_silence() -> None:
    outages = [DatabaseUnavailable("down")]

    class Interrupted(Live):
        async def read_job(self) -> JobRecord:
            if outages:
                raise outages.pop()
            return await super().read_job()

    live = Interrupted()
    live.write(1)
    stream = live.stream()

    assert await anext(stream) == PING
    assert seen([await anext(stream)]) == [1]


async def test_values_are_legal_json_and_a_row_that_cannot_be_read_is_left_out() -> None:
    live = Live()
    lines = [
        '{"images_seen": 1, "time": 5.5, "a": NaN, "b": Infinity, "c": 1.5}',
        '{"images_seen": "many"',
        '{"images_seen": 2, "time": 1e300}',
        '{"images_seen": 3, "time": 6, "a": 2}',
    ]
    live.store.put(JobKeys(JOB).attempt(1).metrics_chunk(0), "\n".join(lines).encode())

    rows = await live.until_caught_up()

    assert seen(rows) == [1, 3]
    assert rows[1].id == "1:0:3"
    assert row_of(rows[0]) == {
        "attempt": 1,
        "images_seen": 1,
        "time": "1970-01-01T00:00:05.500000Z",
        "values": {"a": None, "b": None, "c": 1.5},
    }


async def test_a_row_that_cannot_be_read_keeps_no_other_from_mlflow() -> None:
    live = Live()
    lines = [
        '{"images_seen": 1, "time": 5.5, "a": NaN}',
        '{"images_seen": "many"}',
        "{",
        '{"images_seen": 2, "time": 6}',
    ]
    live.store.put(JobKeys(JOB).attempt(1).metrics_chunk(0), "\n".join(lines).encode())
    objects = JobObjects(live.store, url="memory://tests")

    rows = [row async for some in objects.metric_rows(JOB) for row in some]

    assert [(row.images_seen, row.time) for row in rows] == [(1, 5.5), (2, 6.0)]
    assert math.isnan(rows[0].values["a"])


@pytest.mark.parametrize("text", ["", "1", "1:2", "1:2:3:4", "-1:0:0", "1:0:x", "1:0:1\n", "9" * 40 + ":0:0", "١:0:0"])
def test_what_is_no_cursor_is_none(text: str) -> None:
    assert Cursor.parsed(text) is None


async def test_a_cursor_beyond_everything_waits_and_ends_with_the_job() -> None:
    live = Live()
    live.write(1)
    assert await Tail(live.store, JOB, Cursor(999_999_999, 0, 0)).look(live.attempt) == ()
    live.is_over = True
    assert [message.event async for message in live.stream("1:999999999:0")] == [END]
