"""Curves with fewer points that look the same, and rows that come once each, in order."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import httpx2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.errors import DatabaseUnavailable, MlflowUnavailable
from service.jobs.objects import JobObjects
from service.metrics.downsampling import down_sample
from service.metrics.tail import BEFORE_ALL, Cursor, Row, Standing, follow
from service.mlflow import Mlflow, Point
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

    async def standing(self) -> Standing:
        return Standing(self.attempt, self.is_over)

    def write(self, *images_seen: int, attempt: int = 1) -> None:
        """One chunk, by a worker that has just started."""
        events = [Metrics(seen, 1_700_000_000.0 + seen, {"loss/dsm": seen / 64}) for seen in images_seen]
        Journal(self.store, JobKeys(JOB), attempt).deliver([*events])

    async def until_caught_up(self, after: Cursor = BEFORE_ALL) -> list[Row]:
        found: list[Row] = []
        async for rows in follow(JOB, after, object_store=self.store, standing=self.standing):
            found += rows
            if not rows:
                break
        return found


def seen(rows: Sequence[Row]) -> list[int]:
    return [row.content.images_seen for row in rows]


async def test_rows_come_once_each_and_in_order_from_wherever_one_was_cut() -> None:
    live = Live(attempt=3)
    for number in range(40):
        live.write(2 * number, 2 * number + 1)
    live.write(60, 61, attempt=3)  # the second attempt wrote nothing

    whole = await live.until_caught_up()

    assert seen(whole) == [*range(80), 60, 61]
    assert [str(row.cursor) for row in whole[:3]] == ["1:0:0", "1:0:1", "1:1:0"]
    assert {row.content.attempt for row in whole[80:]} == {3}
    for index, row in enumerate(whole):
        assert await live.until_caught_up(Cursor.parsed(str(row.cursor))) == whole[index + 1 :]


async def test_only_what_is_new_is_read_again() -> None:
    live = Live()
    for number in range(50):
        live.write(number)
    stream = follow(JOB, BEFORE_ALL, object_store=live.store, standing=live.standing)
    found: list[int] = []
    while rows := await anext(stream):
        found += seen(rows)

    live.store.read.clear()
    assert await anext(stream) == ()
    live.write(50)
    assert seen(await anext(stream)) == [50]

    assert found == list(range(50))
    assert len(live.store.read) <= 4


async def test_the_stream_ends_with_the_job_and_not_before_its_last_row() -> None:
    live = Live()
    live.write(1)
    stream = follow(JOB, BEFORE_ALL, object_store=live.store, standing=live.standing)

    assert seen(await anext(stream)) == [1]
    assert await anext(stream) == ()
    live.write(2)
    live.is_over = True
    assert seen(await anext(stream)) == [2]
    with pytest.raises(StopAsyncIteration):
        await anext(stream)


async def test_who_does_not_wait_gets_what_there_is_of_all_attempts() -> None:
    live = Live(attempt=2)
    live.write(1, 2)
    live.write(3)
    live.write(2, attempt=2)

    stream = follow(JOB, BEFORE_ALL, object_store=live.store, standing=live.standing, waits=False)

    assert [row.content.images_seen async for rows in stream for row in rows] == [1, 2, 3, 2]


async def test_rows_that_a_repeated_write_added_to_a_chunk_are_not_lost() -> None:
    live = Live()
    live.write(1)
    stream = follow(JOB, BEFORE_ALL, object_store=live.store, standing=live.standing)
    assert seen(await anext(stream)) == [1]

    key = JobKeys(JOB).attempt(1).metrics_chunk(0)
    first = MemoryStore.get(live.store, key)
    live.store.put(key, first + json.dumps({"images_seen": 2, "time": 0.0, "loss/dsm": 0.5}).encode() + b"\n")
    live.write(3)

    assert seen(await anext(stream)) == [2, 3]


async def test_an_outage_of_the_store_is_silence() -> None:
    live = Live()
    live.write(1)
    live.store.down = True
    stream = follow(JOB, BEFORE_ALL, object_store=live.store, standing=live.standing)

    assert await anext(stream) == ()
    live.store.down = False
    assert seen(await anext(stream)) == [1]


async def test_an_outage_of_the_database_is_silence() -> None:
    live, outages = Live(), [DatabaseUnavailable("down")]
    live.write(1)

    async def standing() -> Standing:
        if outages:
            raise outages.pop()
        return await live.standing()

    stream = follow(JOB, BEFORE_ALL, object_store=live.store, standing=standing)

    assert await anext(stream) == ()
    assert seen(await anext(stream)) == [1]


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
    assert str(rows[1].cursor) == "1:0:3"
    written = json.loads(rows[0].content.model_dump_json(), parse_constant=pytest.fail)
    assert written == {
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
    assert await live.until_caught_up(Cursor(999_999_999, 0, 0)) == []
    live.is_over = True
    assert await live.until_caught_up(Cursor(1, 999_999_999, 0)) == []
