"""Where the service posts what happens to jobs, and what a receiver makes of it."""

import hmac
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import TypedDict, Unpack

from pydantic import ValidationError

from service.client.connection import Connection
from service.client.documents import understood
from service.client.errors import MessageRefused
from service.client.pages import rows
from service.client.paths import path_to
from service.client.refusals import not_understood
from service.webhooks.signatures import signature
from service.webhooks.views import Delivery, DeliveryPage, Message, NewWebhook, Webhook, WebhookPage

_TOLERANCE_SECONDS = 300.0  # between the clock of the service and ours


def verify(secret: str, headers: Mapping[str, str], body: bytes, *, now: float | None = None) -> Message:
    """A message that a receiver was posted, once it is certain that the service has sent it, and lately.

    `body` are the bytes as they came, `now` is in seconds since 1970. One message may come more than once: its header
    `webhook-id` tells.

    Raises:
        MessageRefused: it is not signed with this secret, or more than five minutes old.
    """
    given = {name.lower(): value for name, value in headers.items()}
    message_id, timestamp = given.get("webhook-id", ""), given.get("webhook-timestamp", "")
    if not (timestamp.isascii() and timestamp.isdigit()):
        raise MessageRefused("the message does not say when it was sent: its headers are not those of a webhook")
    expected = signature(secret, message_id=message_id, timestamp=int(timestamp), body=body).encode()
    signatures = given.get("webhook-signature", "").split()
    if not any(hmac.compare_digest(each.encode(), expected) for each in signatures):
        raise MessageRefused("the message is not signed with this secret: do not believe it")
    if abs((time.time() if now is None else now) - int(timestamp)) > _TOLERANCE_SECONDS:
        raise MessageRefused("the message was sent at another time: somebody repeats it, or a clock is wrong")
    try:
        return understood(Message, body)
    except ValidationError as error:
        raise MessageRefused(f"the service sends {not_understood(error)}") from None


class WebhookChanges(TypedDict, total=False):
    """What can be said of a webhook. `event_types`: types of events and states of jobs; none = all events."""

    url: str
    event_types: Sequence[str]
    enabled: bool


class Webhooks:
    """`client.webhooks`: those of a project."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def create(
        self, url: str, *, event_types: Sequence[str] = (), enabled: bool = True, idempotency_key: str | None = None
    ) -> NewWebhook:
        """Have events posted to `url`. The `secret` that they are signed with is shown this once.

        Raises:
            AnswerLost: it was created by a try whose answer got lost, and with it the secret: delete it.
        """
        document = {"url": url, "event_types": list(event_types), "enabled": enabled}
        return self._connection.post(NewWebhook, path_to("webhooks"), document, idempotency_key=idempotency_key)

    def retrieve(self, webhook_id: str) -> Webhook:
        return self._connection.get(Webhook, path_to("webhooks", webhook_id))

    def list(self, *, limit: int | None = None) -> Iterator[Webhook]:
        """Newest first."""
        return rows(self._connection, WebhookPage, path_to("webhooks"), limit=limit)

    def update(self, webhook_id: str, **changes: Unpack[WebhookChanges]) -> Webhook:
        """Change the fields that are given."""
        return self._connection.patch(Webhook, path_to("webhooks", webhook_id), dict(changes))

    def delete(self, webhook_id: str) -> None:
        self._connection.delete(path_to("webhooks", webhook_id))

    def ping(self, webhook_id: str) -> Delivery:
        """Have a message sent that is about no job."""
        return self._connection.post(Delivery, path_to("webhooks", webhook_id, "ping"))

    def deliveries(self, webhook_id: str, *, limit: int | None = None) -> Iterator[Delivery]:
        """What was sent and what became of it, newest first."""
        return rows(self._connection, DeliveryPage, path_to("webhooks", webhook_id, "deliveries"), limit=limit)

    def delivery(self, webhook_id: str, delivery_id: str) -> Delivery:
        return self._connection.get(Delivery, path_to("webhooks", webhook_id, "deliveries", delivery_id))

    def replay(self, webhook_id: str, delivery_id: str) -> Delivery:
        """Have a message sent again, under its id."""
        return self._connection.post(Delivery, path_to("webhooks", webhook_id, "deliveries", delivery_id, "replay"))
