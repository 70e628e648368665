"""A POST that is repeated under its Idempotency-Key is carried out once, whatever happens in between."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import timedelta
from typing import Any

import httpx2
import pytest
from sqlalchemy import func, select

from service.database.tables import idempotency_keys
from service.web.idempotency_store import Answer, IdempotencyStore, Reservation
from tests.support.gate import Gate, gate
from tests.support.problems import code


@pytest.fixture
async def door(database_url: str) -> AsyncIterator[Gate]:
    async with gate(database_url) as door:
        yield door


async def make(door: Gate, key: str = "k1", *, path: str = "/v1/things", **body: Any) -> httpx2.Response:
    return await door.api.post(path, json={"name": "a", **body}, headers={"Idempotency-Key": key})


async def test_a_repeated_request_is_answered_alike_and_carried_out_once(door: Gate) -> None:
    first = await make(door)
    door.clock.advance(6 * 86400)
    again = await make(door)

    assert len(door.made) == 1
    assert (again.status_code, again.content) == (first.status_code, first.content)
    for name in ("Content-Type", "Location", "ETag"):
        assert again.headers[name] == first.headers[name]
    assert again.headers["Idempotent-Replayed"] == "true"
    assert "Idempotent-Replayed" not in first.headers
    assert first.headers["X-Request-Id"] != again.headers["X-Request-Id"]
    assert len(await door.audit(target=first.json()["id"])) == 1


async def test_other_keys_and_other_projects_are_other_requests(door: Gate) -> None:
    await door.api.post("/v1/projects", json={"name": "vision"})
    ids = {(await make(door)).json()["id"], (await make(door, "k2")).json()["id"]}
    elsewhere = {"Idempotency-Key": "k1", "Cdm-Project": "vision"}
    ids.add((await door.api.post("/v1/things", json={"name": "a"}, headers=elsewhere)).json()["id"])

    assert len(ids) == len(door.made) == 3


async def test_a_key_used_for_another_request_is_refused(door: Gate) -> None:
    await make(door)
    other_one = door.using(await door.new_key("jobs:read"), **{"Idempotency-Key": "k1"})

    assert code(await make(door, name="b")) == (422, "idempotency_mismatch")
    assert code(await make(door, path="/v1/things?dry_run=true")) == (422, "idempotency_mismatch")
    assert code(await make(door, path="/v1/projects")) == (422, "idempotency_mismatch")
    by_another = await door.api.post("/v1/things", json={"name": "a"}, headers=other_one)
    assert code(by_another) == (422, "idempotency_mismatch")
    assert len(door.made) == 1


async def test_of_requests_at_the_same_time_one_is_carried_out(door: Gate) -> None:
    answers = await asyncio.gather(*(make(door) for _ in range(8)))

    assert len(door.made) == 1
    for answer in answers:
        if answer.status_code == 409:
            assert code(answer) == (409, "idempotency_in_flight")
            assert answer.headers["Retry-After"] == "1"
        else:
            assert answer.json()["id"] == door.made[0]


async def test_a_request_of_a_process_that_died_is_taken_over_after_a_minute_with_the_same_id(door: Gate) -> None:
    first = await make(door)
    [thing] = door.made
    async with door.database.writing() as connection:  # as if the process had died before it noted the answer
        until = door.clock.now + timedelta(seconds=60)
        await connection.execute(idempotency_keys.update().values(in_flight_until=until, status=None, body=None))

    door.clock.advance(59)
    assert code(await make(door)) == (409, "idempotency_in_flight")
    door.clock.advance(1)
    again = await make(door)

    assert again.json() == first.json()
    assert "Idempotent-Replayed" not in again.headers
    assert door.made == [thing, thing]
    assert len(await door.audit(target=thing)) == 1
    assert (await make(door)).headers["Idempotent-Replayed"] == "true"


async def test_a_request_that_broke_after_its_change_can_be_repeated_at_once_and_finds_what_it_made(door: Gate) -> None:
    assert code(await make(door, breaks=True)) == (500, "internal")
    assert code(await make(door, breaks=True)) == (500, "internal")
    assert (await make(door, "k2", fails=503)).status_code == 503
    assert (await make(door, "k2", fails=503)).status_code == 503

    assert [door.made.count(thing) for thing in dict.fromkeys(door.made)] == [2, 2]
    assert len([row for row in await door.audit() if row["action"] == "thing.make"]) == 2


@pytest.mark.parametrize("status", [400, 401, 403, 404, 408, 409, 410, 413, 422, 429])
async def test_a_refused_request_has_done_nothing_and_can_be_mended_under_its_key(door: Gate, status: int) -> None:
    await make(door, fails=status)
    mended = await make(door, name="b")
    again = await make(door, name="b")

    assert (mended.status_code, again.json()) == (201, mended.json())
    assert again.headers["Idempotent-Replayed"] == "true"


async def test_a_document_with_a_typo_can_be_mended_under_its_key(door: Gate) -> None:
    assert code(await make(door, name=5)) == (422, "validation_failed")
    assert code(await make(door, name=5)) == (422, "validation_failed")
    assert (await make(door, name="mended")).status_code == 201


async def test_a_secret_is_not_kept_and_the_repeated_request_says_so(door: Gate) -> None:
    headers = {"Idempotency-Key": "k1"}
    created = await door.api.post("/v1/api-keys", json={"scopes": ["jobs:read"]}, headers=headers)
    again = await door.api.post("/v1/api-keys", json={"scopes": ["jobs:read"]}, headers=headers)

    assert created.status_code == 201
    assert code(again) == (409, "idempotency_answer_not_kept")
    assert again.json()["location"] == created.headers["Location"]
    async with door.database.reading() as connection:
        row = (await connection.execute(select(idempotency_keys))).mappings().one()
    assert created.json()["key"] not in str(dict(row))
    assert len((await door.api.get("/v1/api-keys")).json()["data"]) == 1


async def test_a_key_made_by_a_process_that_died_is_not_made_again(door: Gate) -> None:
    headers = {"Idempotency-Key": "k1"}
    created = await door.api.post("/v1/api-keys", json={"scopes": ["jobs:read"]}, headers=headers)
    async with door.database.writing() as connection:
        await connection.execute(idempotency_keys.update().values(in_flight_until=door.clock.now))

    for _ in range(2):
        again = await door.api.post("/v1/api-keys", json={"scopes": ["jobs:read"]}, headers=headers)
        assert code(again) == (409, "idempotency_answer_not_kept")
        assert again.json()["location"] == created.headers["Location"]
    assert len((await door.api.get("/v1/api-keys")).json()["data"]) == 1


async def test_a_slow_owner_that_was_taken_over_does_not_overwrite_the_answer(door: Gate) -> None:
    store = IdempotencyStore(door.database)
    slow = await store.reserve("default", "k1", request_sha256="0", now=door.clock())
    taken = await store.reserve("default", "k1", request_sha256="0", now=door.clock() + timedelta(seconds=60))
    assert isinstance(slow, Reservation)
    assert isinstance(taken, Reservation)
    assert taken.ulid == slow.ulid

    await store.finish(taken, Answer(201, {}, "the right one"))
    await store.finish(slow, Answer(500, {}, "too late"))
    await store.forget(slow)

    found = await store.reserve("default", "k1", request_sha256="0", now=door.clock())
    assert found == Answer(201, {}, "the right one")


@pytest.mark.parametrize("key", ["", "a b", "x" * 256, "ü", "a\tb"])
async def test_a_key_that_is_none_is_a_problem(door: Gate, key: str) -> None:
    headers = {b"Idempotency-Key": key.encode("latin-1")}

    response = await door.api.post("/v1/things", json={"name": "a"}, headers=headers)

    assert code(response) == (422, "validation_failed")
    assert door.made == []


async def test_a_key_on_other_methods_means_nothing(door: Gate) -> None:
    for _ in range(2):
        response = await door.api.get("/v1/things/a", headers={"Idempotency-Key": "k1"})
        assert "Idempotent-Replayed" not in response.headers


async def test_keys_are_forgotten_after_seven_days(door: Gate) -> None:
    await make(door, "old")
    door.clock.advance(1)
    await make(door, "new")
    door.clock.advance(7 * 86400)

    assert await IdempotencyStore(door.database).purge(now=door.clock()) == 1

    async with door.database.reading() as connection:
        assert await connection.scalar(select(func.count()).select_from(idempotency_keys)) == 1
    assert "Idempotent-Replayed" in (await make(door, "new")).headers
    assert "Idempotent-Replayed" not in (await make(door, "old")).headers


async def test_two_replicas_share_the_keys(database_url: str) -> None:
    if "sqlite" in database_url:
        pytest.skip("SQLite has one process")
    async with AsyncExitStack() as stack:
        doors = [await stack.enter_async_context(gate(database_url)) for _ in range(2)]

        answers = await asyncio.gather(*(make(doors[number % 2]) for number in range(10)))

    assert len(doors[0].made) + len(doors[1].made) == 1
    assert {answer.status_code for answer in answers} <= {201, 409}
