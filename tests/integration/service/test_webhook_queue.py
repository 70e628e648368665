"""What waits to be posted: taken by one replica at a time, a few places for each receiver, kept for a while."""

import asyncio
from contextlib import AsyncExitStack
from dataclasses import replace

from service.database import open_database
from service.database.tables import webhooks
from service.jobs.lifecycle import JobState
from service.webhooks.deliverer import Deliverer
from tests.support.mail import Post, deliverer, webhook_ids


async def test_whoever_took_a_message_and_died_leaves_it_to_be_sent(mail: Post) -> None:
    await mail.webhook()
    job = await mail.moved(await mail.job(), JobState.FAILED)
    taken = await mail.deliverer.queue.claim(now=mail.clock(), seconds=60)

    assert [one.delivery.sequence for one in taken] == [1]
    assert await mail.delivered() == []  # the next event waits, too
    mail.clock.advance(60)
    assert [one.json["data"]["job"]["id"] for one in await mail.delivered()] == [job.id] * 2


async def test_a_message_that_is_on_its_way_holds_up_no_other_job(mail: Post) -> None:
    await mail.webhook()
    other = await mail.job()
    await mail.delivered()
    await mail.job()
    [taken] = await mail.deliverer.queue.claim(now=mail.clock(), seconds=60)
    assert taken.delivery.sequence == 1

    await mail.moved(other, JobState.FAILED)

    assert [(one.json["data"]["job"]["id"], one.sequence) for one in await mail.delivered()] == [(other.id, 2)]


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

    counts = [sum(one.delivery.webhook_id == webhook for one in taken) for webhook in await webhook_ids(mail)]
    assert counts == [8, 8]


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

    await mail.deliverer.queue.purge(now=mail.clock())

    assert len(await mail.deliveries(webhook)) == 1
