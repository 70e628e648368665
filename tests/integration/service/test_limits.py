"""How often, how much: what is too much is refused, and says when to come back."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from prometheus_client.metrics_core import GaugeMetricFamily, Metric

from service.settings import Requests
from service.web.idempotency_store import IdempotencyStore
from tests.support.clock import counted_by
from tests.support.gate import gate
from tests.support.problems import code

JSON = {"Content-Type": "application/json"}


def url(folder: Path) -> str:
    return f"sqlite:///{folder / 'service.db'}"


async def test_a_principal_has_a_number_of_requests_a_minute_and_is_told_what_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with gate(url(tmp_path), limits=Requests(per_minute=3)) as door:
        counted_by(door.clock, monkeypatch)
        door.clock.advance(30)
        other = door.using(await door.new_key("jobs:read"))
        answers = [await door.api.get("/v1/things/a") for _ in range(3)]

        assert [answer.status_code for answer in answers] == [200, 200, 429]
        assert answers[0].headers["RateLimit-Policy"] == '"principal";q=3;w=60'
        assert [answer.headers["RateLimit"].split(";")[1] for answer in answers] == ["r=1", "r=0", "r=0"]
        assert code(answers[2]) == (429, "rate_limited")
        assert answers[2].headers["Retry-After"] == "30"
        assert (await door.api.get("/v1/things/a", headers=other)).status_code == 200
        assert (await door.api.get("/metrics")).status_code == 200

        door.clock.advance(31)
        one_more = [await door.api.get("/v1/things/a") for _ in range(2)]
        door.clock.advance(120)
        as_before = await door.api.get("/v1/things/a")

        assert [answer.status_code for answer in one_more] == [200, 429]
        assert as_before.headers["RateLimit"].split(";")[1] == "r=2"


async def test_an_address_that_guesses_keys_is_refused_even_when_it_guesses_right(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with gate(url(tmp_path), limits=Requests(failures_per_minute=3)) as door:
        counted_by(door.clock, monkeypatch)
        door.clock.advance(30)
        for number in range(3):
            wrong = await door.api.get("/v1/things/a", headers=door.using(f"cdm_sk_{number}"))
            assert code(wrong) == (401, "not_authenticated")

        right = await door.api.get("/v1/things/a")

        assert code(right) == (429, "rate_limited")
        assert right.headers["Retry-After"] == "30"
        door.clock.advance(31)
        assert (await door.api.get("/v1/things/a")).status_code == 200


async def test_a_body_that_is_announced_or_turns_out_too_large_is_refused_unread(tmp_path: Path) -> None:
    async def streamed() -> AsyncIterator[bytes]:
        for _ in range(100):
            yield b" " * 1000
        raise AssertionError("read on, although it was too large")

    async with gate(url(tmp_path), limits=Requests(max_body_bytes=5000)) as door:
        announced = await door.api.post("/v1/things", content=b" " * 5001)
        chunked = await door.posted("/v1/things", streamed())
        fits = await door.api.post("/v1/things", content=b'{"name": "a"}'.ljust(5000), headers=JSON)

        assert code(announced) == (413, "request_too_large")
        assert chunked == 413
        assert fits.status_code == 201
        with_key = await door.api.post("/v1/things", content=b" " * 5001, headers={"Idempotency-Key": "k1"})
        assert code(with_key) == (413, "request_too_large")
        assert await IdempotencyStore(door.database).purge(now=door.clock().replace(year=2099)) == 0


async def test_unless_set_a_body_has_room_for_the_longest_document_and_not_for_much_more(tmp_path: Path) -> None:
    async with gate(url(tmp_path), limits=Requests()) as door:
        statuses = [
            (await door.api.post("/v1/things", content=b'{"name": "a"}'.ljust(size), headers=JSON)).status_code
            for size in (128 << 10, (128 << 10) + 1)
        ]

    assert statuses == [201, 413]


async def test_a_body_that_does_not_arrive_is_given_up(tmp_path: Path) -> None:
    async def stalled() -> AsyncIterator[bytes]:
        yield b"{"
        await asyncio.Event().wait()

    async with gate(url(tmp_path), limits=Requests(timeout_seconds=0.05)) as door:
        assert await door.posted("/v1/things", stalled()) == 408


async def test_metrics_count_answers_by_route_and_name_no_job(tmp_path: Path) -> None:
    async def collect() -> list[Metric]:
        return [GaugeMetricFamily("cdm_jobs_queued", "Jobs that wait", value=7)]

    async with gate(url(tmp_path), collect=[collect]) as door:
        await door.api.get("/v1/things/secret-name")
        await door.api.get("/v1/things/secret-name", headers=door.using("wrong"))
        await door.api.get("/nowhere/secret-name")
        shown = (await door.api.get("/metrics", headers=door.using(None))).text

    assert 'cdm_http_requests_total{method="GET",route="/v1/things/{name}",status="200"} 1.0' in shown
    assert 'cdm_http_requests_total{method="GET",route="none",status="401"} 1.0' in shown
    assert 'cdm_http_requests_total{method="GET",route="none",status="404"} 1.0' in shown
    assert "cdm_jobs_queued 7.0" in shown
    assert "secret-name" not in shown


async def test_metrics_are_served_even_when_the_jobs_have_nothing_to_say(tmp_path: Path) -> None:
    async def collect() -> list[Metric]:
        raise RuntimeError("the database is away")

    async with gate(url(tmp_path), collect=[collect]) as door:
        shown = await door.api.get("/metrics")

    assert shown.status_code == 200
    assert "cdm_collect_failures_total 1.0" in shown.text
