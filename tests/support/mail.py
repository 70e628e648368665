"""Jobs, webhooks, a receiver, and what carries messages from the ones to the other."""

import base64
import hashlib
import hmac
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from ipaddress import ip_network
from typing import Any

import httpx2
import pytest

from service.database import Database
from service.identifiers import new_id
from service.jobs.lifecycle import JobState
from service.jobs.records import JobRecord
from service.jobs.store import JobStore
from service.web.addresses import AddressGuard
from service.web.outgoing import guarded_client
from service.webhooks.deliverer import Deliverer
from service.webhooks.outbox import enqueue
from service.webhooks.queue import DeliveryQueue
from service.webhooks.routes import router
from service.webhooks.store import WebhookStore
from service.webhooks.usecases import Webhooks
from tests.support.clock import ManualClock
from tests.support.gate import Gate, gate
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
        door.state["webhooks"] = uses
        client = await stack.enter_async_context(guarded_client(LOOPBACK, timeout_seconds=5))
        jobs = JobStore(door.database, on_event=enqueue)
        yield Post(door, jobs, deliverer(door.database, door.clock, client), inbox)


def assert_signed(received: Received, secret: str) -> None:
    """As https://www.standardwebhooks.com says that receivers should."""
    content = f"{received.id}.{received.headers['webhook-timestamp']}.{received.body.decode()}"
    key = base64.b64decode(secret.split("_", 1)[1])
    expected = base64.b64encode(hmac.new(key, content.encode(), hashlib.sha256).digest()).decode()
    assert received.headers["webhook-signature"] == f"v1,{expected}"


async def webhook_ids(mail: Post) -> list[str]:
    return [webhook["id"] for webhook in (await mail.api.get("/v1/webhooks")).json()["data"]]
