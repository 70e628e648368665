"""Webhooks over REST: whose they are, what they may be, and what is shown of them."""

import json
from typing import Any

import pytest
from sqlalchemy import func, select

from service.database.tables import deliveries
from service.jobs.lifecycle import JobState
from service.webhooks.usecases import MAX_WEBHOOKS
from tests.support.gate import BOOTSTRAP_KEY
from tests.support.mail import Post, webhook_ids
from tests.support.problems import code


async def test_the_secret_is_shown_once(mail: Post) -> None:
    created = await mail.api.post("/v1/webhooks", json={"url": mail.receiver.url})
    secret = created.json()["secret"]

    assert created.headers["Cache-Control"] == "no-store"
    shown = await mail.api.get(created.headers["Location"])
    assert shown.json() == {name: value for name, value in created.json().items() if name != "secret"}
    listed = await mail.api.get("/v1/webhooks")
    changed = await mail.api.patch(created.headers["Location"], json={"enabled": False})
    assert all(secret not in answer.text for answer in (shown, listed, changed))


@pytest.mark.parametrize(
    "url",
    [
        "http://169.254.169.254/latest/meta-data",
        "http://[::1]/",
        "http://10.0.0.1/",
        "ftp://example.com/",
        "http://me:secret@127.0.0.1/",
        "nowhere",
        "http://",
    ],
)
async def test_urls_that_lead_inside_are_refused(mail: Post, url: str) -> None:
    webhook = await mail.webhook()

    for refused in (
        await mail.api.post("/v1/webhooks", json={"url": url}),
        await mail.api.patch(f"/v1/webhooks/{webhook['id']}", json={"url": url}),
    ):
        assert code(refused) == (422, "validation_failed")
        assert [error["pointer"] for error in refused.json()["errors"]] == ["/url"]


async def test_a_disabled_webhook_keeps_what_waits_and_a_deleted_one_nothing(mail: Post) -> None:
    webhook = await mail.webhook()
    job = await mail.job()
    url = f"/v1/webhooks/{webhook['id']}"

    assert (await mail.api.patch(url, json={"enabled": False})).json()["enabled"] is False
    await mail.moved(job, JobState.RUNNING)
    assert await mail.delivered() == []
    assert (await mail.api.patch(url, json={"enabled": True})).json()["url"] == mail.receiver.url
    assert [one.sequence for one in await mail.delivered()] == [1]

    await mail.job()
    assert (await mail.api.delete(url)).status_code == 204
    assert await mail.delivered() == []
    for answer in (
        await mail.api.get(url),
        await mail.api.patch(url, json={}),
        await mail.api.delete(url),
        await mail.api.post(f"{url}/ping"),
        await mail.api.get(f"{url}/deliveries"),
    ):
        assert code(answer) == (404, "webhook_not_found")


async def test_lists_page_without_gaps(mail: Post) -> None:
    for _ in range(3):
        mail.clock.advance(1)
        webhook = await mail.webhook()
    for _ in range(5):
        await mail.job()

    for url, total in (("/v1/webhooks", 3), (f"/v1/webhooks/{webhook['id']}/deliveries", 5)):
        seen: list[str] = []
        cursor: str | None = None
        while not seen or cursor:
            params = {"limit": 2, **({"cursor": cursor} if cursor else {})}
            page = (await mail.api.get(url, params=params)).json()
            seen += [one["id"] for one in page["data"]]
            cursor = page["next_cursor"]
        assert len(set(seen)) == len(seen) == total
        assert seen == sorted(seen, reverse=True)
        assert code(await mail.api.get(url, params={"cursor": "x"})) == (422, "validation_failed")


async def test_webhooks_are_of_a_project_and_need_both_scopes(mail: Post) -> None:
    await mail.api.post("/v1/projects", json={"name": "other"})
    webhook = await mail.webhook()
    ping = (await mail.api.post(f"/v1/webhooks/{webhook['id']}/ping")).json()
    theirs = mail.door.using(BOOTSTRAP_KEY, **{"Cdm-Project": "other"})
    url = f"/v1/webhooks/{webhook['id']}"

    assert (await mail.api.get("/v1/webhooks", headers=theirs)).json()["data"] == []
    for answer in (
        await mail.api.get(url, headers=theirs),
        await mail.api.delete(url, headers=theirs),
        await mail.api.post(f"{url}/deliveries/{ping['id']}/replay", headers=theirs),
        await mail.api.get(f"{url}/deliveries/{ping['id']}", headers=theirs),
    ):
        assert code(answer) == (404, "webhook_not_found")
    assert code(await mail.api.get(f"{url}/deliveries/dlv_none")) == (404, "delivery_not_found")
    body = {"url": webhook["url"], "event_types": ["failed"]}
    of_theirs = (await mail.api.post("/v1/webhooks", json=body, headers=theirs)).json()
    through_theirs = f"/v1/webhooks/{of_theirs['id']}/deliveries/{ping['id']}"
    for answer in (
        await mail.api.get(through_theirs, headers=theirs),
        await mail.api.post(f"{through_theirs}/replay", headers=theirs),
    ):
        assert code(answer) == (404, "delivery_not_found")
    for scope, missing in (("jobs:read", "jobs:write"), ("jobs:write", "jobs:read")):
        refused = await mail.api.get("/v1/webhooks", headers=mail.door.using(await mail.door.new_key(scope)))
        assert code(refused) == (403, "forbidden")
        assert refused.json()["required_scope"] == missing
    both = mail.door.using(await mail.door.new_key("jobs:read", "jobs:write"))
    assert (await mail.api.get(url, headers=both)).status_code == 200


async def test_every_change_leaves_a_row_in_the_audit_and_no_secret(mail: Post) -> None:
    webhook = await mail.webhook()
    url = f"/v1/webhooks/{webhook['id']}"
    await mail.api.patch(url, json={"event_types": ["failed"]})
    await mail.api.patch(url, json={"event_types": ["failed"]})
    ping = (await mail.api.post(f"{url}/ping")).json()
    await mail.api.post(f"{url}/deliveries/{ping['id']}/replay")
    await mail.api.delete(url)

    rows = await mail.door.audit()

    assert sorted(row["action"] for row in rows) == sorted(
        f"webhook.{verb}" for verb in ("create", "change", "ping", "replay", "delete")
    )
    assert webhook["secret"] not in json.dumps(rows)


async def test_a_creation_that_is_repeated_makes_no_second_webhook(mail: Post) -> None:
    answers = [
        await mail.api.post("/v1/webhooks", json={"url": mail.receiver.url}, headers={"Idempotency-Key": "k"})
        for _ in range(2)
    ]

    assert answers[0].status_code == 201
    assert code(answers[1]) == (409, "idempotency_answer_not_kept")
    assert len(await webhook_ids(mail)) == 1


async def test_a_project_has_a_limited_number_of_webhooks(mail: Post) -> None:
    for _ in range(MAX_WEBHOOKS):
        await mail.webhook()

    refused = await mail.api.post("/v1/webhooks", json={"url": mail.receiver.url})

    assert code(refused) == (409, "too_many_webhooks")
    await mail.job()
    async with mail.door.database.reading() as connection:
        assert await connection.scalar(select(func.count()).select_from(deliveries)) == MAX_WEBHOOKS


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({}, "/url"),
        ({"url": ""}, "/url"),
        ({"url": 5}, "/url"),
        ({"url": "https://example.com", "enabled": "yes"}, "/enabled"),
        ({"url": "https://example.com", "event_types": "failed"}, "/event_types"),
        ({"url": "https://example.com", "colour": 1}, "/colour"),
        ({"url": "https://example.com", "secret": "mine"}, "/secret"),
    ],
)
async def test_wrong_documents_name_the_field(mail: Post, body: dict[str, Any], pointer: str) -> None:
    answer = await mail.api.post("/v1/webhooks", json=body)

    assert code(answer) == (422, "validation_failed")
    assert [error["pointer"] for error in answer.json()["errors"]] == [pointer]
