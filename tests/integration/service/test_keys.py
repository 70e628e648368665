"""Who may do what: projects, API keys and the audit, as an admin and as others see them."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import httpx2
import pytest
from sqlalchemy import select, text

from service.database.tables import api_keys
from tests.support.clock import counted_by
from tests.support.gate import BOOTSTRAP_KEY, Gate, gate
from tests.support.problems import code


@pytest.fixture
async def door(database_url: str) -> AsyncIterator[Gate]:
    async with gate(database_url) as door:
        yield door


async def test_a_key_is_shown_once_and_opens_its_project_until_it_is_revoked(door: Gate) -> None:
    await door.api.post("/v1/projects", json={"name": "vision", "max_workers": 8})
    created = await door.api.post(
        "/v1/api-keys", json={"name": "ci", "project": "vision", "scopes": ["jobs:read", "jobs:write"]}
    )
    assert (created.status_code, created.headers["Cache-Control"]) == (201, "no-store")
    key = created.json()
    secret = key.pop("key")

    shown = await door.api.get("/v1/things/a", headers=door.using(secret))
    assert shown.json() == {"name": "a", "by": key["id"], "project": "vision"}
    [listed] = (await door.api.get("/v1/api-keys")).json()["data"]
    assert listed == {**key, "last_used_at": listed["last_used_at"]}
    assert secret.startswith(listed["prefix"])
    assert secret not in str(listed)
    assert (await door.api.get(created.headers["Location"])).json() == listed

    assert (await door.api.delete(created.headers["Location"])).status_code == 204
    assert (await door.api.delete(created.headers["Location"])).status_code == 204
    door.clock.advance(5)
    refused = await door.api.get("/v1/things/a", headers=door.using(secret))
    assert code(refused) == (401, "not_authenticated")
    assert refused.headers["WWW-Authenticate"] == "Bearer"
    assert secret not in refused.text
    assert (await door.api.get("/v1/api-keys")).json()["data"] == []
    [revoked] = (await door.api.get("/v1/api-keys", params={"revoked": True})).json()["data"]
    assert revoked["revoked_at"] is not None
    assert (await door.api.delete(created.headers["Location"])).status_code == 204
    assert (await door.api.get("/v1/api-keys", params={"revoked": True})).json()["data"] == [revoked]
    [row] = [row for row in await door.audit() if row["action"] == "api_key.revoke"]
    assert row["target"] == revoked["id"]
    assert await door.audit(project="vision") == []  # an admin of the default project did all of it


async def test_only_the_hash_of_a_key_is_kept(door: Gate) -> None:
    secret = await door.new_key("jobs:read")

    async with door.database.reading() as connection:
        row = (await connection.execute(select(api_keys))).mappings().one()
    assert secret not in str(dict(row))
    assert len(row["sha256"]) == 64


async def test_a_key_stops_at_its_expiry_and_cannot_be_made_expired(door: Gate) -> None:
    soon = (door.clock.now + timedelta(seconds=3)).isoformat()
    secret = await door.new_key("jobs:read", expires_at=soon)
    assert (await door.api.get("/v1/things/a", headers=door.using(secret))).status_code == 200

    door.clock.advance(3)

    assert code(await door.api.get("/v1/things/a", headers=door.using(secret))) == (401, "not_authenticated")
    late = await door.api.post("/v1/api-keys", json={"scopes": ["admin"], "expires_at": soon})
    assert code(late) == (422, "validation_failed")
    assert late.json()["errors"][0]["pointer"] == "/expires_at"


async def test_the_use_of_a_key_is_noted_once_a_minute(door: Gate) -> None:
    secret = await door.new_key("jobs:read")

    async def used_at() -> Any:
        await door.api.get("/v1/things/a", headers=door.using(secret))
        return (await door.api.get("/v1/api-keys")).json()["data"][0]["last_used_at"]

    first = await used_at()
    door.clock.advance(54)
    assert await used_at() == first
    door.clock.advance(6)
    assert await used_at() > first


@pytest.mark.parametrize(
    ("scopes", "may_read", "may_write", "may_administer"),
    [
        (["jobs:read"], True, False, False),
        (["jobs:write"], False, True, False),
        (["jobs:read", "jobs:write"], True, True, False),
        (["admin"], True, True, True),
    ],
)
async def test_a_key_may_do_what_its_scopes_say_and_a_refusal_names_the_missing_one(
    door: Gate, scopes: list[str], may_read: bool, may_write: bool, may_administer: bool
) -> None:
    headers = door.using(await door.new_key(*scopes))

    answers = {
        "jobs:read": (may_read, await door.api.get("/v1/things/a", headers=headers)),
        "jobs:write": (may_write, await door.api.post("/v1/things", json={"name": "a"}, headers=headers)),
        "admin": (may_administer, await door.api.get("/v1/audit", headers=headers)),
    }

    for scope, (allowed, response) in answers.items():
        if allowed:
            assert response.status_code in (200, 201)
        else:
            assert code(response) == (403, "forbidden")
            assert response.json()["required_scope"] == scope


async def test_only_admins_choose_the_project_and_only_one_that_exists(door: Gate) -> None:
    await door.api.post("/v1/projects", json={"name": "vision"})
    mine = await door.new_key("jobs:read", "jobs:write")

    async def project(key: str, wanted: str) -> httpx2.Response:
        return await door.api.get("/v1/things/a", headers=door.using(key, **{"Cdm-Project": wanted}))

    assert (await project(BOOTSTRAP_KEY, "vision")).json()["project"] == "vision"
    assert (await project(mine, "default")).json()["project"] == "default"
    assert code(await project(mine, "vision")) == (403, "forbidden")
    assert code(await project(mine, "nowhere")) == (403, "forbidden")
    for wanted in ("nowhere", "Vision", "x" * 5000, "a\tb"):
        assert code(await project(BOOTSTRAP_KEY, wanted)) == (404, "project_not_found")
    admin = await door.new_key("admin", project="vision")
    assert (await project(admin, "default")).json()["project"] == "default"


async def test_quotas_are_set_taken_away_and_left_alone(door: Gate) -> None:
    created = await door.api.post("/v1/projects", json={"name": "vision", "max_workers": 8, "max_jobs": 2})
    url = created.headers["Location"]

    door.clock.advance(1)
    changed = await door.api.patch(url, json={"max_workers": None, "max_priority": "low"})
    again = await door.api.patch(url, json={})

    assert created.status_code == 201
    assert created.json()["max_priority"] == "high"
    assert changed.json() == again.json() == {**created.json(), "max_workers": None, "max_priority": "low"}
    assert (await door.api.get(url)).json() == changed.json()
    names = [project["name"] for project in (await door.api.get("/v1/projects")).json()["data"]]
    assert names == ["default", "vision"]
    assert [row["action"] for row in await door.audit()] == ["project.change", "project.create"]
    [change] = await door.audit(target="vision", actor="bootstrap", project="default", limit="1")
    assert change["before_sha256"] != change["after_sha256"]
    at = change["at"]
    assert [row["action"] for row in await door.audit(since=at)] == ["project.change"]
    assert [row["action"] for row in await door.audit(until=at)] == ["project.create"]
    assert code(await door.api.post("/v1/projects", json={"name": "vision"})) == (409, "project_exists")
    assert code(await door.api.patch("/v1/projects/none", json={})) == (404, "project_not_found")


async def test_every_change_leaves_one_row_and_what_changes_nothing_none(door: Gate) -> None:
    secret = await door.new_key("jobs:write")
    [key] = (await door.api.get("/v1/api-keys")).json()["data"]
    made = await door.api.post(
        "/v1/things", json={"name": "a"}, headers=door.using(secret, **{"X-Request-Id": "mine-1"})
    )
    await door.api.post("/v1/things", content=b"{", headers=door.using(secret))
    await door.api.delete("/v1/api-keys/key_none")
    await door.api.post("/v1/things", json={"name": "a"}, headers=door.using("wrong"))
    await door.api.get("/v1/audit", headers=door.using(secret))

    rows = {row["action"]: row for row in await door.audit()}

    assert set(rows) == {"api_key.create", "thing.make"}
    thing = rows["thing.make"]
    assert (thing["actor"], thing["target"], thing["status"]) == (key["id"], made.json()["id"], 201)
    assert (thing["method"], thing["path"], thing["request_id"]) == ("POST", "/v1/things", "mine-1")
    assert (thing["client"], thing["project"]) == ("127.0.0.1", "default")


async def test_forbidden_changes_are_kept_whether_a_route_refuses_or_the_project_is_another_one(door: Gate) -> None:
    secret = await door.new_key("jobs:read")
    await door.api.post("/v1/projects", json={"name": "made"}, headers=door.using(secret))
    await door.api.post("/v1/things", json={"name": "a"}, headers=door.using(secret, **{"Cdm-Project": "other"}))

    refused = [row for row in await door.audit() if row["action"] == "refused"]

    assert {(row["path"], row["status"]) for row in refused} == {("/v1/projects", 403), ("/v1/things", 403)}


async def test_of_forbidden_changes_a_few_a_minute_are_kept(door: Gate, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows of the audit are for good: whoever may only read must not fill the database."""
    counted_by(door.clock, monkeypatch)
    secret = await door.new_key("jobs:read")

    answers = [await door.api.post("/v1/projects", json={}, headers=door.using(secret)) for _ in range(30)]

    assert {answer.status_code for answer in answers} == {403}
    assert len([row for row in await door.audit() if row["action"] == "refused"]) == 10
    door.clock.advance(120)
    await door.api.post("/v1/projects", json={}, headers=door.using(secret))
    assert len([row for row in await door.audit() if row["action"] == "refused"]) == 11


async def test_lists_page_from_newest_to_oldest_without_gaps(door: Gate) -> None:
    for _ in range(5):
        door.clock.advance(0.01)
        await door.new_key("jobs:read")
    everything = (await door.api.get("/v1/api-keys")).json()["data"]

    for url, total in (("/v1/api-keys", 5), ("/v1/audit", 5), ("/v1/projects", 1)):
        seen: list[str] = []
        cursor = None
        while True:
            params = {"limit": 2, **({"cursor": cursor} if cursor else {})}
            page = (await door.api.get(url, params=params)).json()
            seen += [one.get("id", one.get("name")) for one in page["data"]]
            cursor = page["next_cursor"]
            if not page["has_more"]:
                break
        assert len(seen) == len(set(seen)) == total
        if url == "/v1/api-keys":
            assert seen == [key["id"] for key in everything] == sorted(seen, reverse=True)


@pytest.mark.parametrize("url", ["/v1/api-keys", "/v1/audit", "/v1/projects"])
@pytest.mark.parametrize("cursor", ["", "x", "%00", "YXVkaXQ6", "am9iczpqb2JfMQ", "ü", "YXVkaXQ6AA"])
async def test_a_cursor_that_is_none_is_a_problem(door: Gate, url: str, cursor: str) -> None:
    response = await door.api.get(url, params={"cursor": cursor})

    assert code(response) == (422, "validation_failed")
    assert response.json()["errors"][0]["pointer"] == "/query/cursor"


@pytest.mark.parametrize(
    ("url", "body", "pointer"),
    [
        ("/v1/projects", {"name": "Has Spaces"}, "/name"),
        ("/v1/projects", {"name": "ok", "max_jobs": -1}, "/max_jobs"),
        ("/v1/projects", {"name": "ok", "max_priority": "top"}, "/max_priority"),
        ("/v1/projects", {"name": "ok", "max_priority": None}, "/max_priority"),
        ("/v1/projects", {"name": "ok", "colour": 1}, "/colour"),
        ("/v1/api-keys", {"scopes": []}, "/scopes"),
        ("/v1/api-keys", {"scopes": ["everything"]}, "/scopes/0"),
        ("/v1/api-keys", {"scopes": ["admin"], "project": "nowhere"}, "/project"),
        ("/v1/api-keys", {"scopes": ["admin"], "expires_at": "2030-01-01T00:00:00"}, "/expires_at"),
    ],
)
async def test_wrong_documents_name_the_field(door: Gate, url: str, body: dict[str, Any], pointer: str) -> None:
    response = await door.api.post(url, json=body)

    assert code(response) == (422, "validation_failed")
    assert [error["pointer"] for error in response.json()["errors"]] == [pointer]


async def test_a_key_for_a_project_that_is_not_there_says_so(door: Gate) -> None:
    response = await door.api.post("/v1/api-keys", json={"scopes": ["jobs:read"], "project": "nowhere"})

    [error] = response.json()["errors"]
    assert error["message"] == "there is no project 'nowhere': create it with POST /v1/projects"


async def test_a_change_whose_audit_row_cannot_be_written_is_not_made(door: Gate) -> None:
    async with door.database.writing() as connection:
        await connection.execute(text("DROP TABLE audit"))

    assert (await door.api.post("/v1/projects", json={"name": "vision"})).status_code >= 500
    assert code(await door.api.get("/v1/projects/vision")) == (404, "project_not_found")


async def test_many_requests_at_once_with_a_new_key_are_all_let_in(door: Gate) -> None:
    secret = await door.new_key("jobs:read")

    answers = await asyncio.gather(*(door.api.get("/v1/things/a", headers=door.using(secret)) for _ in range(20)))

    assert {answer.status_code for answer in answers} == {200}
