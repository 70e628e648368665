"""Receivers that are slow, silent or switched off hold up nobody else, and lose nothing."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, event, select, update

from service.database import Database, open_database
from service.database.tables import deliveries, webhooks
from service.identifiers import new_id
from service.jobs.lifecycle import JobState
from service.jobs.loop import Loop
from service.jobs.records import JobRecord
from service.jobs.store import JobStore
from service.web.outgoing import guarded_client
from service.webhooks.deliverer import Deliverer
from service.webhooks.outbox import enqueue
from service.webhooks.queue import DeliveryQueue
from service.webhooks.records import Addressee, WebhookRecord
from service.webhooks.store import WebhookStore
from tests.support.clock import ManualClock
from tests.support.fresh_databases import Databases, SqliteFiles
from tests.support.mail import LOOPBACK
from tests.support.plane import eventually, served_in, settings_in
from tests.support.receiver import Receiver, receiver
from workers.contract.presets import PRESETS

OF_ONE_WEBHOOK, OF_ONE_PROJECT, IN_ALL = 8, 32, 256


@dataclass
class Post:
    """Two receivers, each with a webhook of its own, and what carries messages to them."""

    database: Database
    clock: ManualClock
    jobs: JobStore
    deliverer: Deliverer
    slow: Receiver
    quick: Receiver

    def loop(self) -> Loop:
        return Loop("webhooks", self.deliverer.tick, interval_seconds=0.05)

    async def job(self, *states: JobState, project: str = "default") -> JobRecord:
        """A new one, which has come into these states; each is an event."""
        job = JobRecord(
            id=new_id("job", at=self.clock()),
            project=project,
            spec=PRESETS["smoke"].model_dump_json(),
            spec_sha256="",
            state=JobState.QUEUED,
            created_at=self.clock(),
        )
        await self.jobs.create(job)
        job = replace(job, event_sequence=1)
        for state in states:
            moved = await self.jobs.apply(job, replace(job, state=state), events=["state_changed"], at=self.clock())
            assert moved
            job = moved
        return job

    async def webhook(self, name: str, url: str, *, project: str = "default") -> None:
        hook = WebhookRecord(
            id=name, project=project, url=url, event_types=(), secret="whsec_", enabled=True, created_at=self.clock()
        )
        async with self.database.writing() as connection:
            await WebhookStore(self.database).add(connection, hook)

    async def enable(self, webhook_id: str, *, enabled: bool) -> None:
        async with self.database.writing() as connection:
            await connection.execute(update(webhooks).where(webhooks.c.id == webhook_id).values(enabled=enabled))

    async def outcomes(self, webhook_id: str) -> Counter[tuple[bool, str | None]]:
        """Of its deliveries, how many came to what: whether they were delivered, and what went wrong last."""
        async with self.database.reading() as connection:
            rows = await connection.execute(select(deliveries).where(deliveries.c.webhook_id == webhook_id))
            return Counter((row.delivered_at is not None, row.last_error) for row in rows)


@pytest.fixture
def receivers() -> Iterator[list[Receiver]]:
    with ExitStack() as stack:
        yield [stack.enter_context(receiver()) for _ in range(2)]


@pytest.fixture
async def mail(database_url: str, receivers: list[Receiver]) -> AsyncIterator[Post]:
    clock, (slow, quick) = ManualClock(), receivers
    async with AsyncExitStack() as stack:
        database = await stack.enter_async_context(open_database(database_url))
        client = await stack.enter_async_context(guarded_client(LOOPBACK, timeout_seconds=30))
        deliverer = Deliverer(queue=DeliveryQueue(database), client=client, clock=clock, patience_seconds=30)
        stack.push_async_callback(deliverer.finish)
        stack.callback(slow.gate.set)
        mail = Post(database, clock, JobStore(database, on_event=enqueue), deliverer, slow, quick)
        for name, url in (("slow", slow.url), ("quick", quick.url)):
            await mail.webhook(name, url)
        yield mail


async def test_a_slow_receiver_delays_no_other_and_gets_all_in_the_end(mail: Post) -> None:
    mail.slow.gate.clear()
    for _ in range(12):
        await mail.job()
    async with mail.loop().running():

        async def quick_has_all_and_slow_is_full() -> bool:
            return len(mail.quick.received) == 12 and len(mail.slow.received) == OF_ONE_WEBHOOK

        await eventually(quick_has_all_and_slow_is_full, what="the quick one has all, the slow one a few")
        for _ in range(3):
            await mail.job(JobState.STARTING, JobState.FAILED)

        async def quick_has_all() -> bool:
            return len(mail.quick.received) == 21

        await eventually(quick_has_all, what="what came later has come, too")
        assert len(mail.slow.received) == OF_ONE_WEBHOOK

        mail.slow.gate.set()

        async def slow_has_all() -> bool:
            return len(mail.slow.received) == 21

        await eventually(slow_has_all, what="the slow one has all")
    assert len({one.id for one in mail.slow.received}) == 21


async def test_a_receiver_that_is_back_has_all_its_places_again(mail: Post) -> None:
    mail.slow.statuses.append(500)
    await mail.job()
    while await mail.deliverer.tick():
        pass
    mail.clock.advance(12)
    while await mail.deliverer.tick():
        pass
    assert await mail.outcomes("slow") == {(True, None): 1}
    before = len(mail.slow.received)

    mail.slow.gate.clear()
    for _ in range(12):
        await mail.job()
    async with mail.loop().running():

        async def is_full() -> bool:
            return len(mail.slow.received) - before == OF_ONE_WEBHOOK

        await eventually(is_full, what="all its places are taken")
        mail.slow.gate.set()


async def test_a_receiver_that_never_answers_fails_by_itself(mail: Post) -> None:
    hasty = replace(mail.deliverer, patience_seconds=0.3)
    mail.slow.gate.clear()
    await mail.job()

    while await hasty.tick():
        pass

    assert await mail.outcomes("quick") == {(True, None): 1}
    assert await mail.outcomes("slow") == {(False, "no answer within 0.3 s"): 1}
    mail.slow.gate.set()
    mail.clock.advance(12)
    while await hasty.tick():
        pass
    assert await mail.outcomes("slow") == {(True, None): 1}


async def test_there_are_few_on_their_way_in_all_and_to_each(mail: Post) -> None:
    for _ in range(OF_ONE_WEBHOOK):
        await mail.job()

    async def taken(busy: list[Addressee]) -> Counter[str]:
        claimed = await mail.deliverer.queue.claim(now=mail.clock(), seconds=0, busy=busy)
        return Counter(one.delivery.webhook_id for one in claimed)

    slow, others = Addressee("slow", "default"), Addressee("others", "others")
    assert await taken([slow] * (OF_ONE_WEBHOOK - 1)) == {"slow": 1, "quick": OF_ONE_WEBHOOK}
    assert (await taken([others] * (IN_ALL - 3))).total() == 3
    assert await taken([others] * IN_ALL) == {}


async def test_those_that_have_nothing_on_its_way_come_first(mail: Post) -> None:
    await mail.enable("quick", enabled=False)
    await mail.job()
    mail.clock.advance(1)
    await mail.enable("quick", enabled=True)
    await mail.job()
    slow, others = Addressee("slow", "default"), Addressee("others", "others")

    claimed = await mail.deliverer.queue.claim(now=mail.clock(), seconds=0, busy=[slow] + [others] * (IN_ALL - 2))

    assert [one.delivery.webhook_id for one in claimed] == ["quick"]


async def test_two_projects_of_dead_receivers_hold_up_no_third(mail: Post) -> None:
    mail.slow.gate.clear()
    for project in ("first", "second"):
        for number in range(20):
            await mail.webhook(f"{project}-{number}", mail.slow.url, project=project)
        for _ in range(OF_ONE_WEBHOOK):
            await mail.job(project=project)
    async with mail.loop().running():

        async def are_full() -> bool:
            return len(mail.slow.received) >= 2 * OF_ONE_PROJECT

        await eventually(are_full, what="both projects have all that they may have on their way")
        await mail.webhook("third", mail.quick.url, project="third")
        await mail.job(project="third")

        async def third_has_its_message() -> bool:
            return await mail.outcomes("third") == {(True, None): 1}

        await eventually(third_has_its_message, what="the third has its message")
        assert len(mail.slow.received) == 2 * OF_ONE_PROJECT
        mail.slow.gate.set()


async def test_a_receiver_that_failed_gets_one_message_at_a_time_until_it_takes_one(mail: Post) -> None:
    mail.slow.statuses.append(500)
    await mail.job()
    while await mail.deliverer.tick():
        pass
    mail.slow.gate.clear()
    for _ in range(3 * OF_ONE_WEBHOOK):
        await mail.job()

    while len(mail.quick.received) < 1 + 3 * OF_ONE_WEBHOOK:
        await mail.deliverer.tick()

    assert len(mail.slow.received) == 2
    mail.slow.gate.set()
    while await mail.deliverer.tick():
        pass
    assert len(mail.slow.received) == 1 + 3 * OF_ONE_WEBHOOK


async def test_what_is_on_its_way_when_the_service_ends_is_noted(
    tmp_path: Path, receivers: list[Receiver], monkeypatch: pytest.MonkeyPatch
) -> None:
    slow, finish = receivers[0], Deliverer.finish

    async def answered_while_it_ends(self: Deliverer) -> None:
        finishing = asyncio.create_task(finish(self))
        await asyncio.sleep(0)
        assert not finishing.done()
        slow.gate.set()
        await finishing

    monkeypatch.setattr(Deliverer, "finish", answered_while_it_ends)
    slow.gate.clear()
    async with served_in(tmp_path, allow_private_addresses=True) as served:
        webhook = (await served.api.post("/v1/webhooks", json={"url": slow.url})).json()
        await served.api.post(f"/v1/webhooks/{webhook['id']}/ping")

        async def arrived() -> bool:
            return bool(slow.received)

        await eventually(arrived, what="the message is there")

    async with open_database(settings_in(tmp_path).database_url) as database, database.reading() as connection:
        [ping] = (await connection.execute(select(deliveries))).all()
    assert [one.id for one in slow.received] == [ping.id]
    assert ping.delivered_at


async def test_what_waits_for_a_disabled_webhook_is_sent_when_it_is_enabled_again(mail: Post) -> None:
    for _ in range(3):
        await mail.job(*[JobState.RUNNING, JobState.RECOVERING] * 2)
    await mail.enable("slow", enabled=False)

    while await mail.deliverer.tick():
        pass
    assert len(mail.quick.received) == 15
    assert mail.slow.received == []

    await mail.job()  # passes it by
    await mail.enable("slow", enabled=True)
    while await mail.deliverer.tick():
        pass
    of_each: dict[str, list[int]] = {}
    for one in mail.slow.received:
        of_each.setdefault(one.json["data"]["job"]["id"], []).append(one.sequence)
    assert sorted(of_each.values()) == [[1, 2, 3, 4, 5]] * 3


async def test_what_waits_is_not_gone_through_each_time(mail: Post, databases: Databases) -> None:
    """However much a disabled webhook, or a receiver that is down, has waiting: the loop asks every second."""
    if not isinstance(databases, SqliteFiles):
        pytest.skip("of SQLite's plans; those of Postgres depend on what is in the table, and it is nearly empty")
    asked = list[tuple[str, Any]]()

    def note(_c: Connection, _k: object, statement: str, parameters: Any, _x: object, _m: object) -> None:
        asked.append((statement, parameters))

    await mail.job()
    event.listen(Engine, "before_cursor_execute", note)
    assert await mail.deliverer.queue.claim(now=mail.clock(), seconds=60)
    event.remove(Engine, "before_cursor_execute", note)

    async with mail.database.reading() as connection:
        for statement, parameters in asked:
            if "deliveries" in statement:
                plan = await connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)
                steps = [row.detail for row in plan]
                assert not [step for step in steps if "SCAN deliveries" in step or "deliveries_by" in step], steps
