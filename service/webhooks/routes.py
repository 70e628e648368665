"""The REST interface of webhooks.

They need both `jobs:read` and `jobs:write`: a webhook tells of all jobs of its project, and changes what the service
does. Not `admin`, which is for the whole installation: people are to be told of their own jobs. Even the list is for
those only, since a URL may be as good as a password.
"""

from dataclasses import asdict
from typing import Annotated

from fastapi import APIRouter, Depends, Header, Path, Response

from service.errors import DeliveryNotFound, IdempotencyAnswerNotKept, TooManyWebhooks, WebhookNotFound
from service.web.audit import CurrentRequester
from service.web.description import sent
from service.web.idempotency import ReservedUlid, documented_idempotency_key
from service.web.pagination import CursorParameter, LimitParameter, page_of, read_cursor
from service.web.principal import Principal, Reader, Writer
from service.web.problems import EVERY_POST, WITH_BODY, documented
from service.web.routers import of_state, v1_router
from service.web.views import PLAIN_TEXT
from service.webhooks.records import DeliveryRecord, WebhookRecord
from service.webhooks.usecases import Webhooks
from service.webhooks.views import (
    Delivery,
    DeliveryPage,
    DeliveryState,
    Message,
    NewWebhook,
    Webhook,
    WebhookCreate,
    WebhookPage,
    WebhookUpdate,
)

router = v1_router("webhooks")


async def _member(_: Reader, writer: Writer) -> Principal:
    return writer


Service = Annotated[Webhooks, of_state("webhooks")]
Member = Annotated[Principal, Depends(_member)]
WebhookId = Annotated[str, Path(max_length=64, pattern=PLAIN_TEXT, description="As given at creation")]
DeliveryId = Annotated[str, Path(max_length=64, pattern=PLAIN_TEXT, description="Its `webhook-id`")]
_POST = [Depends(documented_idempotency_key)]
_LOOKUP_RESPONSES = documented(WebhookNotFound)
_DELIVERY_ERRORS = (WebhookNotFound, DeliveryNotFound)


@router.post(
    "/webhooks",
    status_code=201,
    summary="Create a webhook, and see its secret for the only time",
    description="Messages are signed as standardwebhooks.com has it. Each is sent until it is answered 2xx within "
    "10 s, for about three days, and may arrive more than once.",
    dependencies=_POST,
    responses=sent(201, "Location") | documented(*EVERY_POST, TooManyWebhooks, IdempotencyAnswerNotKept),
)
async def create_webhook(
    _: Member,
    body: WebhookCreate,
    webhooks: Service,
    requester: CurrentRequester,
    ulid: ReservedUlid,
    response: Response,
) -> NewWebhook:
    webhook = await webhooks.create(body, requester=requester, reserved_ulid=ulid)
    response.headers["Location"] = f"/v1/webhooks/{webhook.id}"
    response.headers["Cache-Control"] = "no-store"  # no Idempotency-Key keeps the secret either
    return _new_webhook_view(webhook)


@router.get("/webhooks", summary="List webhooks, newest first")
async def list_webhooks(
    member: Member, webhooks: Service, cursor: CursorParameter = None, limit: LimitParameter = 50
) -> WebhookPage:
    before = read_cursor(cursor, kind="webhooks")
    found = await webhooks.store.page(project=member.project, before=before, limit=limit + 1)
    page = page_of(found, limit=limit, kind="webhooks", key=lambda webhook: webhook.id)
    return page.shown(WebhookPage, map(_webhook_view, page.rows))


@router.get("/webhooks/{webhook_id}", summary="Show a webhook", responses=_LOOKUP_RESPONSES)
async def get_webhook(member: Member, webhook_id: WebhookId, webhooks: Service) -> Webhook:
    return _webhook_view(await webhooks.find(webhook_id, project=member.project))


@router.patch("/webhooks/{webhook_id}", summary="Change a webhook", responses=documented(*WITH_BODY, WebhookNotFound))
async def change_webhook(
    _: Member, webhook_id: WebhookId, body: WebhookUpdate, webhooks: Service, requester: CurrentRequester
) -> Webhook:
    return _webhook_view(await webhooks.change(webhook_id, body, requester=requester))


@router.delete("/webhooks/{webhook_id}", status_code=204, summary="Delete a webhook", responses=_LOOKUP_RESPONSES)
async def delete_webhook(_: Member, webhook_id: WebhookId, webhooks: Service, requester: CurrentRequester) -> None:
    await webhooks.remove(webhook_id, requester=requester)


@router.post(
    "/webhooks/{webhook_id}/ping",
    status_code=202,
    summary="Send a message that is about no job",
    dependencies=_POST,
    responses=documented(*EVERY_POST, WebhookNotFound),
)
async def ping_webhook(
    _: Member, webhook_id: WebhookId, webhooks: Service, requester: CurrentRequester, ulid: ReservedUlid
) -> Delivery:
    return _delivery_view(await webhooks.ping(webhook_id, requester=requester, reserved_ulid=ulid))


@router.get(
    "/webhooks/{webhook_id}/deliveries", summary="What was sent, newest first, for 30 days", responses=_LOOKUP_RESPONSES
)
async def list_deliveries(
    member: Member,
    webhook_id: WebhookId,
    webhooks: Service,
    cursor: CursorParameter = None,
    limit: LimitParameter = 50,
) -> DeliveryPage:
    webhook, before = await webhooks.find(webhook_id, project=member.project), read_cursor(cursor, kind="deliveries")
    found = await webhooks.store.deliveries(webhook.id, before=before, limit=limit + 1)
    page = page_of(found, limit=limit, kind="deliveries", key=lambda delivery: delivery.id)
    return page.shown(DeliveryPage, map(_delivery_view, page.rows))


@router.get(
    "/webhooks/{webhook_id}/deliveries/{delivery_id}",
    summary="Show what became of a message",
    responses=documented(*_DELIVERY_ERRORS),
)
async def get_delivery(member: Member, webhook_id: WebhookId, delivery_id: DeliveryId, webhooks: Service) -> Delivery:
    return _delivery_view(await webhooks.delivery(webhook_id, delivery_id, project=member.project))


@router.post(
    "/webhooks/{webhook_id}/deliveries/{delivery_id}/replay",
    status_code=202,
    summary="Send a message again, under its id",
    dependencies=_POST,
    responses=documented(*EVERY_POST, *_DELIVERY_ERRORS),
)
async def replay_delivery(
    _: Member, webhook_id: WebhookId, delivery_id: DeliveryId, webhooks: Service, requester: CurrentRequester
) -> Delivery:
    return _delivery_view(await webhooks.replay(webhook_id, delivery_id, requester=requester))


messages = APIRouter(tags=["webhooks"])  # what receivers are asked: only for the description


@messages.post(
    "message",
    status_code=204,
    operation_id="message",
    summary="What is posted to a webhook, signed as standardwebhooks.com has it",
    responses={
        204: {"description": "Any other 2xx within 10 s will do, too"},
        "default": {"description": "It is sent again, for about three days"},
    },
)
async def message(
    body: Message,
    webhook_id: Annotated[str, Header(description="Of the delivery: the same at every try")],
    webhook_timestamp: Annotated[int, Header(description="When it was sent, in seconds since 1970")],
    webhook_signature: Annotated[str, Header(description="`v1,` and the HMAC-SHA256 of `id.timestamp.body` in Base64")],
) -> None:
    """One message may arrive more than once, and a later one before it."""


def _webhook_view(webhook: WebhookRecord) -> Webhook:
    return Webhook.model_validate(webhook, from_attributes=True)


def _new_webhook_view(webhook: WebhookRecord) -> NewWebhook:
    return NewWebhook.model_validate(webhook, from_attributes=True)


def _delivery_view(delivery: DeliveryRecord) -> Delivery:
    about = {"job_id": None, "sequence": None} if delivery.is_ping else {}
    return Delivery.model_validate({**asdict(delivery), **about, "state": _state(delivery)})


def _state(delivery: DeliveryRecord) -> DeliveryState:
    if delivery.delivered_at:
        return DeliveryState.DELIVERED
    return DeliveryState.PENDING if delivery.due_at else DeliveryState.GIVEN_UP
