"""Webhooks: events are posted at least once, signed, in order where receivers let them, and can be replayed."""

import asyncio
import base64
import hashlib
import hmac
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from datetime import timedelta
from ipaddress import ip_network
from typing import Any

import httpx2
import pytest
from sqlalchemy import func, select

from service.database import Database, open_database
from service.database.tables import deliveries, webhooks
from service.identifiers import new_id
from service.jobs.lifecycle import JobState
from service.jobs.records import JobRecord
from service.jobs.store import JobStore
from service.web.addresses import AddressGuard
from service.web.outgoing import guarded_client
from service.webhooks.deliverer import Deliverer
from service.webhooks.outbox import enqueue
from service.webhooks.queue import DeliveryQueue
from service.webhooks.retries import MAX_TRIES
from service.webhooks.routes import router, webhooks_of
from service.webhooks.sender import post
from service.webhooks.store import WebhookStore
from service.webhooks.usecases import MAX_WEBHOOKS, Webhooks
from tests.support.clock import ManualClock
from tests.support.gate import BOOTSTRAP_KEY, Gate, gate
from tests.support.problems import code
from tests.support.receiver import Received, Receiver, receiver
from workers.contract.presets import PRESETS

LOOPBACK = AddressGuard(networks=[ip_network("127.0.0.0/8")])


@dataclass
class Post:
    """Jobs, webhooks and what carries messages from the ones to the others."""

    door: Gate
    jobs: JobStore
    deliverer: Deliverer
    receiver: Receiver

    @property
    def api(self) -> httpx2.AsyncClient:
        return self.door.api

    @property
    def clock(self) -> ManualClock:
        return self.door.clock

    async def webhook(self, **fields: Any) -> dict[str, Any]:
        answer = await self.api.post("/v1/webhooks", json={"url": self.receiver.url, **fields})
        assert answer.status_code == 201, answer.text
        return dict(answer.json())

    async def job(self, *, project: str = "default", name: str | None = None) -> JobRecord:
        """A new one, which is an event."""
        job = JobRecord(
            id=new_id("job", at=self.clock()),
            project=project,
            name=name,
            labels={"team": "vision"},
            spec=PRESETS["smoke"].model_dump_json(),
            spec_sha256="",
            state=JobState.QUEUED,
            created_at=self.clock(),
        )
        await self.jobs.create(job)
        return replace(job, event_sequence=1)

    async def moved(self, job: JobRecord, *states: JobState, event: str = "state_changed") -> JobRecord:
        for state in states:
            written = await self.jobs.apply(job, replace(job, state=state), events=[event], at=self.clock())
            assert written
            job = written
        return job

    async def delivered(self) -> list[Received]:
        """What arrives when all is sent that is due now."""
        before = len(self.receiver.received)
        while await self.deliverer.tick():
            pass
        return self.receiver.received[before:]

    async def deliveries(self, webhook: dict[str, Any]) -> list[dict[str, Any]]:
        """Oldest first."""
        answer = await self.api.get(f"/v1/webhooks/{webhook['id']}/deliveries", params={"limit": 200})
        return list(reversed(answer.json()["data"]))


@pytest.fixture
def inbox() -> Iterator[Receiver]:
    with receiver() as inbox:
        yield inbox


def deliverer(database: Database, clock: ManualClock, client: httpx2.AsyncClient) -> Deliverer:
    return Deliverer(queue=DeliveryQueue(database), client=client, clock=clock, jitter=lambda: 0.5)


@pytest.fixture
async def mail(database_url: str, inbox: Receiver) -> AsyncIterator[Post]:
    async with AsyncExitStack() as stack:
        door = await stack.enter_async_context(gate(database_url))
        uses = Webhooks(store=WebhookStore(door.database), guard=LOOPBACK, clock=door.clock)
        door.app.include_router(router)
        door.app.dependency_overrides[webhooks_of] = lambda: uses
        client = await stack.enter_async_context(guarded_client(LOOPBACK, timeout_seconds=5))
        jobs = JobStore(door.database, on_event=enqueue)
        yield Post(door, jobs, deliverer(door.database, door.clock, client), inbox)


def assert_signed(received: Received, secret: str) -> None:
    """As https://www.standardwebhooks.com says that receivers should."""
    content = f"{received.id}.{received.headers['webhook-timestamp']}.{received.body.decode()}"
    key = base64.b64decode(secret.split("_", 1)[1])
    expected = base64.b64encode(hmac.new(key, content.encode(), hashlib.sha256).digest()).decode()
    assert received.headers["webhook-signature"] == f"v1,{expected}"


async def test_an_event_is_posted_signed_and_shown_as_delivered(mail: Post) -> None:
    webhook = await mail.webhook()
    job = await mail.job(name="first")

    [received] = await mail.delivered()

    assert_signed(received, webhook["secret"])
    assert int(received.headers["webhook-timestamp"]) == int(mail.clock().timestamp())
    assert received.headers["content-type"] == "application/json"
    message = received.json
    assert message["type"] == "created"
    assert message["data"]["event"]["sequence"] == 1
    assert message["data"]["job"] == {
        "id": job.id,
        "project": "default",
        "name": "first",
        "labels": {"team": "vision"},
        "state": "queued",
    }
    [delivery] = await mail.deliveries(webhook)
    assert (delivery["id"], delivery["state"], delivery["tries"]) == (received.id, "delivered", 1)
    assert (delivery["job_id"], delivery["sequence"], delivery["last_status"]) == (job.id, 1, 204)
    assert (await mail.api.get(f"/v1/webhooks/{webhook['id']}/deliveries/{received.id}")).json() == delivery
    assert await mail.delivered() == []


async def test_the_secret_is_shown_once(mail: Post) -> None:
    created = await mail.api.post("/v1/webhooks", json={"url": mail.receiver.url})
    secret = created.json()["secret"]

    assert created.headers["Cache-Control"] == "no-store"
    shown = await mail.api.get(created.headers["Location"])
    assert shown.json() == {name: value for name, value in created.json().items() if name != "secret"}
    listed = await mail.api.get("/v1/webhooks")
    changed = await mail.api.patch(created.headers["Location"], json={"enabled": False})
    assert all(secret not in answer.text for answer in (shown, listed, changed))


async def test_a_change_that_is_not_committed_is_told_to_nobody(mail: Post) -> None:
    await mail.webhook()
    job = await mail.job()
    await mail.delivered()

    async def fail(_: object) -> None:
        raise RuntimeError("in the middle")

    with pytest.raises(RuntimeError):
        await mail.jobs.apply(
            job, replace(job, state=JobState.FAILED), events=["state_changed"], at=mail.clock(), inside=fail
        )

    assert await mail.delivered() == []


async def test_a_webhook_gets_the_events_it_chose_of_its_own_project(mail: Post) -> None:
    await mail.api.post("/v1/projects", json={"name": "other"})
    chosen = await mail.webhook(event_types=["failed", "updated"])
    every = await mail.webhook(event_types=[])
    off = await mail.webhook(enabled=False)
    job = await mail.moved(await mail.job(), JobState.RUNNING, JobState.FAILED)
    job = await mail.moved(job, JobState.FAILED, event="updated")
    await mail.moved(job, JobState.FAILED, event="archived")
    await mail.job(project="other")

    await mail.delivered()

    def sequences(found: list[dict[str, Any]]) -> list[int]:
        return [delivery["sequence"] for delivery in found]

    assert sorted(sequences(await mail.deliveries(chosen))) == [3, 4]
    assert sorted(sequences(await mail.deliveries(every))) == [1, 2, 3, 4, 5]
    assert await mail.deliveries(off) == []


async def test_events_of_a_job_come_in_order_and_one_that_fails_holds_up_none(mail: Post) -> None:
    webhook = await mail.webhook()
    mail.receiver.statuses.extend([204, 500])
    await mail.moved(await mail.job(), *[JobState.RUNNING, JobState.RECOVERING] * 3)

    assert [one.sequence for one in await mail.delivered()] == [1, 2, 3, 4, 5, 6, 7]

    failed = next(one for one in await mail.deliveries(webhook) if one["state"] == "pending")
    assert (failed["sequence"], failed["last_status"], failed["last_error"]) == (2, 500, "answered 500")
    mail.clock.advance(9.5)
    assert await mail.delivered() == []
    mail.clock.advance(1)
    assert [(one.sequence, one.id) for one in await mail.delivered()] == [(2, failed["id"])]
    assert {one["state"] for one in await mail.deliveries(webhook)} == {"delivered"}


async def test_a_receiver_that_never_takes_a_message_is_given_up_after_days(mail: Post) -> None:
    webhook = await mail.webhook()
    mail.receiver.statuses.extend([302] * 100)
    await mail.job()
    started = mail.clock()

    for _ in range(MAX_TRIES):
        await mail.delivered()
        [delivery] = await mail.deliveries(webhook)
        if delivery["due_at"]:
            mail.clock.advance(6 * 3600)

    assert (delivery["state"], delivery["tries"], delivery["last_error"]) == ("given_up", MAX_TRIES, "answered 302")
    assert {one.path for one in mail.receiver.received} == {"/"}  # no redirect was followed
    assert len({one.id for one in mail.receiver.received}) == 1
    assert mail.clock() - started > timedelta(days=3)
    mail.clock.advance(86400)
    assert await mail.delivered() == []


async def test_a_message_is_replayed_under_its_id(mail: Post) -> None:
    webhook = await mail.webhook()
    await mail.job()
    [first] = await mail.delivered()
    url = f"/v1/webhooks/{webhook['id']}/deliveries/{first.id}/replay"

    answer = await mail.api.post(url)
    [again] = await mail.delivered()

    assert (answer.status_code, answer.json()["state"], answer.json()["tries"]) == (202, "pending", 0)
    assert (again.id, again.body) == (first.id, first.body)
    [delivery] = await mail.deliveries(webhook)
    assert (delivery["state"], delivery["tries"]) == ("delivered", 1)


async def test_a_ping_is_about_no_job_and_one_under_the_same_key_is_sent_once(mail: Post) -> None:
    webhook = await mail.webhook()
    url = f"/v1/webhooks/{webhook['id']}/ping"

    answers = [await mail.api.post(url, headers={"Idempotency-Key": "k"}) for _ in range(2)]
    [received] = await mail.delivered()

    assert {answer.status_code for answer in answers} == {202}
    assert {answer.json()["id"] for answer in answers} == {received.id}
    assert received.json == {"type": "ping", "timestamp": answers[0].json()["created_at"], "data": None}
    assert_signed(received, webhook["secret"])


async def test_whoever_took_a_message_and_died_leaves_it_to_be_sent(mail: Post) -> None:
    await mail.webhook()
    job = await mail.moved(await mail.job(), JobState.FAILED)
    taken = await mail.deliverer.queue.claim(now=mail.clock(), seconds=60)

    assert [one.delivery.sequence for one in taken] == [1]
    assert await mail.delivered() == []  # the next event waits, too
    mail.clock.advance(60)
    assert [one.json["data"]["job"]["id"] for one in await mail.delivered()] == [job.id] * 2


async def test_whoever_was_frozen_for_longer_than_it_may_changes_nothing(mail: Post) -> None:
    webhook = await mail.webhook()
    await mail.job()
    [frozen] = await mail.deliverer.queue.claim(now=mail.clock(), seconds=60)
    mail.clock.advance(60)
    assert len(await mail.delivered()) == 1

    late = replace(frozen.delivery, tries=1, last_error="too late", due_at=None)

    assert not await mail.deliverer.queue.settle(frozen.delivery, late)
    assert [one["state"] for one in await mail.deliveries(webhook)] == ["delivered"]


async def test_several_replicas_do_not_send_a_message_at_the_same_time(mail: Post, database_url: str) -> None:
    await mail.webhook()
    async with AsyncExitStack() as stack:
        databases = [mail.door.database] * 2  # SQLite has one process
        if mail.door.database.dialect == "postgresql":
            databases = [await stack.enter_async_context(open_database(database_url)) for _ in range(3)]
        replicas = [deliverer(database, mail.clock, mail.deliverer.client) for database in databases]
        for _ in range(12):
            await mail.moved(await mail.job(), JobState.RUNNING, JobState.SUCCEEDED)

        async def work(replica: Deliverer) -> None:
            idle = 0
            while idle < 5:
                idle = 0 if await replica.tick() else idle + 1
                await asyncio.sleep(0.01)

        await asyncio.gather(*map(work, replicas))

    received = mail.receiver.received
    assert len(received) == len({one.id for one in received}) == 36
    for job_id in {one.json["data"]["job"]["id"] for one in received}:
        assert [one.sequence for one in received if one.json["data"]["job"]["id"] == job_id] == [1, 2, 3]


async def test_one_receiver_takes_a_few_places_only(mail: Post) -> None:
    for _ in range(2):
        await mail.webhook()
    for _ in range(20):
        await mail.job()

    taken = await mail.deliverer.queue.claim(now=mail.clock(), seconds=60)

    counts = [sum(one.delivery.webhook_id == webhook for one in taken) for webhook in await _ids(mail)]
    assert counts == [8, 8]


async def _ids(mail: Post) -> list[str]:
    return [webhook["id"] for webhook in (await mail.api.get("/v1/webhooks")).json()["data"]]


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


async def test_what_leads_inside_by_now_is_given_up_at_once_and_a_lost_name_is_not(mail: Post) -> None:
    barred = await mail.webhook()
    lost = await mail.webhook()
    async with mail.door.database.writing() as connection:
        for webhook, url in ((barred, "http://10.0.0.1/"), (lost, "http://nowhere.invalid/")):
            await connection.execute(webhooks.update().where(webhooks.c.id == webhook["id"]).values(url=url))
    await mail.job()

    assert await mail.delivered() == []

    [given_up], [pending] = await mail.deliveries(barred), await mail.deliveries(lost)
    assert (given_up["state"], given_up["tries"]) == ("given_up", 1)
    assert "10.0.0.1" in given_up["last_error"]
    assert (pending["state"], pending["tries"]) == ("pending", 1)


async def test_a_receiver_that_is_gone_or_takes_too_long_is_an_error_to_come_back_to(inbox: Receiver) -> None:
    inbox.gate.clear()
    async with guarded_client(LOOPBACK, timeout_seconds=5) as client:
        late = await post(client, inbox.url, headers={}, body=b"{}", timeout_seconds=0.2)
        gone = await post(client, "http://127.0.0.1:9", headers={}, body=b"{}")

    assert (late.status, late.error, late.hopeless) == (None, "no answer within 0.2 s", False)
    assert gone.error
    assert not gone.hopeless


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


async def test_an_event_does_not_fail_when_a_webhook_is_deleted_at_the_same_moment(mail: Post) -> None:
    await mail.webhook()
    job = await mail.job()
    await mail.delivered()
    async with mail.door.database.writing() as connection:
        await connection.execute(webhooks.delete())
        moving = asyncio.create_task(mail.moved(job, JobState.FAILED))
        await asyncio.wait([moving], timeout=0.3)
        assert not moving.done()

    assert (await moving).state is JobState.FAILED
    assert await mail.delivered() == []


async def test_old_deliveries_are_forgotten(mail: Post) -> None:
    webhook = await mail.webhook()
    await mail.job()
    await mail.delivered()
    mail.clock.advance(29 * 86400)
    await mail.job()
    await mail.delivered()
    mail.clock.advance(2 * 86400)

    await mail.deliverer.tick()

    assert len(await mail.deliveries(webhook)) == 1


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
    assert len(await _ids(mail)) == 1


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
