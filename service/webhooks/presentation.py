"""Records as users see them."""

from service.webhooks.messages import is_ping
from service.webhooks.records import DeliveryRecord, WebhookRecord
from service.webhooks.views import Delivery, DeliveryState, NewWebhook, Webhook


def webhook_view(webhook: WebhookRecord) -> Webhook:
    return Webhook(
        id=webhook.id,
        url=webhook.url,
        event_types=webhook.event_types,
        enabled=webhook.enabled,
        created_at=webhook.created_at,
    )


def new_webhook_view(webhook: WebhookRecord) -> NewWebhook:
    return NewWebhook(**webhook_view(webhook).model_dump(), secret=webhook.secret)


def delivery_view(delivery: DeliveryRecord) -> Delivery:
    return Delivery(
        id=delivery.id,
        state=_state(delivery),
        job_id=None if is_ping(delivery) else delivery.job_id,
        sequence=None if is_ping(delivery) else delivery.sequence,
        created_at=delivery.created_at,
        due_at=delivery.due_at,
        tries=delivery.tries,
        delivered_at=delivery.delivered_at,
        last_status=delivery.last_status,
        last_error=delivery.last_error,
    )


def _state(delivery: DeliveryRecord) -> DeliveryState:
    if delivery.delivered_at:
        return DeliveryState.DELIVERED
    return DeliveryState.PENDING if delivery.due_at else DeliveryState.GIVEN_UP
