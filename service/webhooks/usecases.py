"""What users can do with webhooks. Every change is committed together with its audit row."""

from collections.abc import Callable
from dataclasses import dataclass, replace

from service.clock import Clock
from service.errors import DeliveryNotFound, IdempotencyAnswerNotKept, InvalidRequest, TooManyWebhooks, WebhookNotFound
from service.identifiers import new_id
from service.web.addresses import AddressGuard, AddressRefused
from service.web.audit import Requester, record_audit
from service.webhooks.records import DeliveryRecord, WebhookRecord
from service.webhooks.signatures import new_secret
from service.webhooks.store import WebhookStore
from service.webhooks.views import WebhookCreate, WebhookUpdate
from workers.contract.document import Problem

MAX_WEBHOOKS = 20  # of one project


@dataclass(frozen=True, slots=True, kw_only=True)
class Webhooks:
    """The use cases. A webhook of another project is not found. `wake` tells the deliverer that something is due."""

    store: WebhookStore
    guard: AddressGuard
    clock: Clock
    wake: Callable[[], None] = lambda: None

    async def create(self, request: WebhookCreate, *, requester: Requester, reserved_ulid: str | None) -> WebhookRecord:
        """A new webhook and its secret. Repeated after a crash it makes no second one; the secret is lost then."""
        await self._check(request.url, project=requester.project)
        now = self.clock()
        webhook = WebhookRecord(
            id=f"whk_{reserved_ulid}" if reserved_ulid else new_id("whk", at=now),
            project=requester.project,
            url=request.url,
            event_types=request.event_types,
            secret=new_secret(),
            enabled=request.enabled,
            created_at=now,
        )
        async with self.store.database.writing() as connection:
            if not await self.store.add(connection, webhook):
                raise IdempotencyAnswerNotKept(
                    "the webhook was created, and its secret is lost: delete it and create another",
                    location=f"/v1/webhooks/{webhook.id}",
                )
            if await self.store.count(connection, project=requester.project) > MAX_WEBHOOKS:
                raise TooManyWebhooks(f"a project may have {MAX_WEBHOOKS}: delete one first")
            entry = requester.entry("webhook.create", at=now, target=webhook.id, status=201, after=_audited(webhook))
            await record_audit(connection, entry)
        return webhook

    async def find(self, webhook_id: str, *, project: str) -> WebhookRecord:
        async with self.store.database.reading() as connection:
            found = await self.store.find(connection, webhook_id, project=project)
        return _there(found, webhook_id)

    async def change(self, webhook_id: str, request: WebhookUpdate, *, requester: Requester) -> WebhookRecord:
        """Change the fields that are given."""
        given = request.model_dump(include=request.model_fields_set)
        if "url" in given:
            await self._check(request.url, project=requester.project)
        async with self.store.database.writing() as connection:
            found = _there(await self.store.find(connection, webhook_id, project=requester.project), webhook_id)
            changed = replace(found, **given)
            if changed != found:
                await self.store.change(connection, changed)
                before, after = _audited(found), _audited(changed)
                entry = requester.entry(
                    "webhook.change", at=self.clock(), target=webhook_id, before=before, after=after
                )
                await record_audit(connection, entry)
        return changed

    async def remove(self, webhook_id: str, *, requester: Requester) -> None:
        """With its deliveries; what is on its way may still arrive."""
        async with self.store.database.writing() as connection:
            found = _there(await self.store.find(connection, webhook_id, project=requester.project), webhook_id)
            await self.store.remove(connection, webhook_id)
            entry = requester.entry(
                "webhook.delete", at=self.clock(), target=webhook_id, status=204, before=_audited(found)
            )
            await record_audit(connection, entry)

    async def ping(self, webhook_id: str, *, requester: Requester, reserved_ulid: str | None) -> DeliveryRecord:
        """Have a message sent that is about no job."""
        now = self.clock()
        new = f"dlv_{reserved_ulid}" if reserved_ulid else new_id("dlv", at=now)
        async with self.store.database.writing() as connection:
            _there(await self.store.find(connection, webhook_id, project=requester.project), webhook_id)
            ping = DeliveryRecord(id=new, webhook_id=webhook_id, created_at=now, due_at=now)
            await self.store.add_delivery(connection, ping)
            found = await self.store.delivery(connection, new, webhook_id=webhook_id)
            await record_audit(connection, requester.entry("webhook.ping", at=now, target=webhook_id, status=202))
        self.wake()
        return found or ping

    async def delivery(self, webhook_id: str, delivery_id: str, *, project: str) -> DeliveryRecord:
        async with self.store.database.reading() as connection:
            _there(await self.store.find(connection, webhook_id, project=project), webhook_id)
            found = await self.store.delivery(connection, delivery_id, webhook_id=webhook_id)
        return _delivery_there(found, webhook_id, delivery_id)

    async def replay(self, webhook_id: str, delivery_id: str, *, requester: Requester) -> DeliveryRecord:
        """Have a message sent again, under its id, as if it had never been."""
        now = self.clock()
        async with self.store.database.writing() as connection:
            _there(await self.store.find(connection, webhook_id, project=requester.project), webhook_id)
            found = await self.store.delivery(connection, delivery_id, webhook_id=webhook_id)
            delivery = _delivery_there(found, webhook_id, delivery_id)
            fresh = await self.store.again(connection, delivery, at=now)
            await record_audit(connection, requester.entry("webhook.replay", at=now, target=delivery_id, status=202))
        self.wake()
        return fresh

    async def _check(self, url: str, *, project: str) -> None:
        try:
            await self.guard.check(url, project=project)
        except AddressRefused as error:
            wrong = Problem("/url", "address_refused", str(error))
            raise InvalidRequest("nothing can be sent to this URL", problems=[wrong]) from error


def _there(found: WebhookRecord | None, webhook_id: str) -> WebhookRecord:
    if found is None:
        raise WebhookNotFound(f"there is no webhook {webhook_id!r}")
    return found


def _delivery_there(found: DeliveryRecord | None, webhook_id: str, delivery_id: str) -> DeliveryRecord:
    if found is None:
        raise DeliveryNotFound(f"{webhook_id} has no delivery {delivery_id!r}")
    return found


def _audited(webhook: WebhookRecord) -> str:
    """All of it but the secret, of which not even a fingerprint is kept."""
    return repr(replace(webhook, secret=""))
