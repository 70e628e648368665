"""Webhooks: events are posted at least once, signed, in order where receivers let them."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from ipaddress import ip_address
from typing import Any

import pytest

from service.client.webhooks import verify
from service.database.tables import webhooks
from service.jobs.lifecycle import JobState
from service.web.addresses import Address, AddressGuard
from service.web.outgoing import guarded_client
from service.webhooks.sending import MAX_TRIES, pause_after, post
from tests.support.mail import LOOPBACK, Post, assert_signed
from tests.support.receiver import Receiver


async def test_an_event_is_posted_signed_and_shown_as_delivered(mail: Post) -> None:
    webhook = await mail.webhook()
    job = await mail.job(name="first")

    [received] = await mail.delivered()

    assert_signed(received, webhook["secret"])
    verified = verify(webhook["secret"], received.headers, received.body, now=mail.clock().timestamp())
    assert verified.model_dump(mode="json") == received.json
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


async def test_a_change_that_is_not_committed_is_told_to_nobody(mail: Post) -> None:
    await mail.webhook()
    job = await mail.job()
    await mail.delivered()

    async def fail() -> None:
        async with mail.jobs.writing() as connection:
            failed = replace(job, state=JobState.FAILED)
            assert await mail.jobs.change(connection, job, failed, events=["state_changed"], at=mail.clock())
            raise RuntimeError("in the middle")

    with pytest.raises(RuntimeError):
        await fail()

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
    [again] = await mail.delivered()
    assert (again.sequence, again.id) == (2, failed["id"])
    assert_signed(again, webhook["secret"])
    assert int(again.headers["webhook-timestamp"]) == int(mail.clock().timestamp()), "receivers refuse what is old"
    assert {one["state"] for one in await mail.deliveries(webhook)} == {"delivered"}


async def test_a_receiver_that_never_takes_a_message_is_given_up_after_days(mail: Post) -> None:
    webhook = await mail.webhook()
    mail.receiver.statuses.extend([500] + [302] * 100)
    await mail.job()
    started, pauses = mail.clock(), list[timedelta]()

    for _ in range(MAX_TRIES):
        await mail.delivered()
        [delivery] = await mail.deliveries(webhook)
        if delivery["due_at"]:
            pauses.append(datetime.fromisoformat(delivery["due_at"]) - mail.clock())
            mail.clock.advance(6 * 3600)

    assert pauses == [pause_after(tries, jitter=0.5) for tries in range(1, MAX_TRIES)]

    assert (delivery["state"], delivery["tries"]) == ("given_up", MAX_TRIES)
    assert (delivery["last_status"], delivery["last_error"]) == (302, "answered 302")
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


async def test_a_name_that_leads_inside_by_now_is_told_as_a_lost_one_and_only_an_address_is_given_up(
    mail: Post,
) -> None:
    urls = ("http://10.0.0.1/", "http://inside.test/", "http://nowhere.invalid/")
    found = [await mail.webhook() for _ in urls]
    async with mail.door.database.writing() as connection:
        for webhook, url in zip(found, urls, strict=True):
            await connection.execute(webhooks.update().where(webhooks.c.id == webhook["id"]).values(url=url))
    await mail.job()

    async with guarded_client(AddressGuard(resolve=some_inside), timeout_seconds=5) as client:
        sending = replace(mail.deliverer, client=client)
        while await sending.tick():
            pass

    [barred], [inside], [lost] = [await mail.deliveries(webhook) for webhook in found]
    assert (barred["state"], barred["tries"]) == ("given_up", 1)
    assert (inside["state"], inside["tries"], inside["due_at"]) == (lost["state"], 1, lost["due_at"])
    assert (inside["state"], inside["last_error"]) == ("pending", "inside.test leads to no public address")
    assert lost["last_error"] == "nowhere.invalid leads to no public address"


async def some_inside(host: str, port: int) -> Sequence[Address]:
    return () if host == "nowhere.invalid" else [ip_address("10.0.0.1")]


async def test_a_receiver_that_is_gone_or_takes_too_long_is_an_error_to_come_back_to(inbox: Receiver) -> None:
    inbox.gate.clear()
    async with guarded_client(LOOPBACK, timeout_seconds=5) as client:
        late = await post(client, inbox.url, project="default", headers={}, body=b"{}", timeout_seconds=0.2)
        gone = await post(client, "http://127.0.0.1:9", project="default", headers={}, body=b"{}")

    assert (late.status, late.error, late.hopeless) == (None, "no answer within 0.2 s", False)
    assert gone.error
    assert not gone.hopeless
