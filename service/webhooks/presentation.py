"""Records as users see them."""

from dataclasses import asdict

from service.webhooks.messages import is_ping
from service.webhooks.records import DeliveryRecord, WebhookRecord
from service.webhooks.views import Delivery, DeliveryState, NewWebhook, Webhook


def webhook_view(webhook: WebhookRecord) -> Webhook:
    return Webhook.model_validate(webhook, from_attributes=True)


def new_webhook_view(webhook: WebhookRecord) -> NewWebhook:
    return NewWebhook.model_validate(webhook, from_attributes=True)


def delivery_view(delivery: DeliveryRecord) -> Delivery:
    about = {"job_id": None, "sequence": None} if is_ping(delivery) else {}
    return Delivery.model_validate({**asdict(delivery), **about, "state": _state(delivery)})


def _state(delivery: DeliveryRecord) -> DeliveryState:
    if delivery.delivered_at:
        return DeliveryState.DELIVERED
    return DeliveryState.PENDING if delivery.due_at else DeliveryState.GIVEN_UP
