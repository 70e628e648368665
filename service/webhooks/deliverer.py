"""The loop that posts messages: at least once, in the order of events as far as receivers let it.

Promised: every message of a webhook that is enabled is posted until the receiver answers 2xx, for about three days. The
first tries of the events of one job come in their order, one after the other. A message that failed does not hold up
those after it, and comes later. A receiver that is slow has a few messages on their way, one
that fails a single one, a project some: none of them holds up those of others.
"""

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import httpx2
import structlog

from service.clock import Clock
from service.webhooks.queue import DeliveryQueue
from service.webhooks.records import Addressee, Claimed, DeliveryRecord
from service.webhooks.sending import TIMEOUT_SECONDS, Answer, message_of, pause_after, post
from service.webhooks.signatures import signature

log = structlog.get_logger()

_LEASE_SECONDS = 6 * TIMEOUT_SECONDS
_MOMENT_SECONDS = 0.25  # others may be due by then, and need not wait for a receiver that is slow
_MOST_FAILING = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Deliverer:
    """`client` guards where the URLs of users lead; `jitter` gives numbers in [0, 1).

    Whatever is on its way stays due, some time from now, until it has been noted what became of it. So a process that
    dies loses nothing.
    """

    queue: DeliveryQueue
    client: httpx2.AsyncClient
    clock: Clock
    jitter: Callable[[], float] = random.random
    patience_seconds: float = TIMEOUT_SECONDS
    _on_their_way: dict[asyncio.Task[None], Addressee] = field(default_factory=dict)
    _failing: set[str] = field(default_factory=set)  # webhooks whose last message did not arrive

    async def tick(self) -> bool:
        """Send off what is due, and wait a moment for something to arrive; False if there is nothing on its way."""
        now = self.clock()
        if len(self._failing) > _MOST_FAILING:
            self._failing.clear()  # or those that were deleted would stay for ever
        busy, failing = self._on_their_way.values(), self._failing
        for claimed in await self.queue.claim(now=now, seconds=_LEASE_SECONDS, busy=busy, failing=failing):
            delivering = asyncio.create_task(self._deliver(claimed))
            self._on_their_way[delivering] = claimed.addressee
            delivering.add_done_callback(self._on_their_way.pop)
        if not self._on_their_way:
            return False
        await asyncio.wait(self._on_their_way, timeout=_MOMENT_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        return True

    async def finish(self) -> None:
        """Return when nothing is on its way any more; what is cut off instead is sent again when its lease is over."""
        if self._on_their_way:
            await asyncio.wait(self._on_their_way)

    async def _deliver(self, claimed: Claimed) -> None:
        delivery = claimed.delivery
        try:
            answer = await self._post(claimed)
            self._note(delivery.webhook_id, answer)
            settled = self._after(delivery, answer)
            await self.queue.settle(delivery, settled)
        except Exception:
            log.exception("webhook.not_settled", delivery=delivery.id)  # when the lease is over, it is tried again
            return
        told = {"delivery": delivery.id, "tries": settled.tries, "status": answer.status, "error": answer.error}
        log.info("webhook.delivered" if settled.delivered_at else "webhook.failed", **told)

    def _note(self, webhook_id: str, answer: Answer) -> None:
        if answer.error is None:
            self._failing.discard(webhook_id)
        else:
            self._failing.add(webhook_id)

    async def _post(self, claimed: Claimed) -> Answer:
        message = message_of(claimed)
        if message is None:
            return Answer(error="the event is lost", hopeless=True)
        body, timestamp = message.model_dump_json().encode(), int(self.clock().timestamp())
        headers = {
            "Content-Type": "application/json",
            "User-Agent": "cdm-train",
            "webhook-id": claimed.delivery.id,
            "webhook-timestamp": str(timestamp),
            "webhook-signature": signature(
                claimed.secret, message_id=claimed.delivery.id, timestamp=timestamp, body=body
            ),
        }
        return await post(
            self.client,
            claimed.url,
            project=claimed.project,
            headers=headers,
            body=body,
            timeout_seconds=self.patience_seconds,
        )

    def _after(self, delivery: DeliveryRecord, answer: Answer) -> DeliveryRecord:
        now, tries = self.clock(), delivery.tries + 1
        tried = replace(delivery, tries=tries, last_status=answer.status, last_error=answer.error, due_at=None)
        if answer.error is None:
            return replace(tried, delivered_at=now)
        pause = None if answer.hopeless else pause_after(tries, jitter=self.jitter())
        return replace(tried, due_at=now + pause) if pause else tried
