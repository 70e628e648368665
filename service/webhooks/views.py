"""Webhooks and what they post. Pydantic and the views of jobs only, because the SDK and receivers are built on it."""

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, Literal, get_args

from pydantic import BeforeValidator, Field, Strict
from pydantic_core import PydanticCustomError

from service.jobs.lifecycle import EventType, JobState
from service.jobs.result_views import Event
from service.web.views import Changes, PageOf, View
from workers.contract.document import Document
from workers.contract.spelling import did_you_mean

MOVES: tuple[EventType, ...] = ("created", "attempt_started", "state_changed")  # events that tell of a new state
StateName = Literal[
    "queued",
    "starting",
    "running",
    "recovering",
    "pausing",
    "paused",
    "cancelling",
    "succeeded",
    "failed",
    "cancelled",
]
PING = "ping"  # the type of a message that is about no job

WORDS = (*get_args(EventType), *get_args(StateName))


def _known(word: Any) -> Any:
    if isinstance(word, str) and word not in WORDS:
        message = f"there is no such type of event, and no such state{did_you_mean(word, WORDS)}"
        raise PydanticCustomError("unknown_event_type", "{message}", {"message": message})
    return word


Url = Annotated[str, Field(min_length=1, max_length=2000, description="http or https; no redirects are followed")]
EventTypes = Annotated[
    tuple[Annotated[Literal[EventType, StateName], BeforeValidator(_known)], ...],
    Strict(False),
    Field(
        fail_fast=True, max_length=50, description="Types of events, and states that jobs come into; none = all events"
    ),
]


class WebhookCreate(Document):
    """A request to be told of the jobs of a project."""

    url: Url
    event_types: EventTypes = ()
    enabled: bool = True


class WebhookUpdate(Changes):
    """What can be changed of a webhook: the fields that are given."""

    url: Url = ""
    event_types: EventTypes = ()
    enabled: bool = True


class Webhook(View):
    """Where the events of a project's jobs are posted to."""

    id: str
    url: str
    event_types: tuple[str, ...]
    enabled: Annotated[bool, Field(description="While it is not, events pass it by, and what it was to be sent waits")]
    created_at: datetime


class NewWebhook(Webhook):
    """A webhook with its secret, which is shown this once."""

    secret: Annotated[str, Field(description="Signs all messages (https://www.standardwebhooks.com)")]


class WebhookPage(PageOf[Webhook]):
    """Webhooks, newest first."""


class DeliveryState(StrEnum):
    """What became of a message."""

    PENDING = "pending"
    DELIVERED = "delivered"
    GIVEN_UP = "given_up"


class Delivery(View):
    """One message to one webhook. Its id is the message's `webhook-id`, the same at every try and replay."""

    id: str
    state: DeliveryState
    job_id: Annotated[str | None, Field(description="null for a ping")]
    sequence: Annotated[int | None, Field(description="Of the event within its job")]
    created_at: datetime
    due_at: Annotated[datetime | None, Field(description="When it is tried next")]
    tries: int
    delivered_at: datetime | None
    last_status: Annotated[int | None, Field(description="What the receiver answered last")]
    last_error: str | None


class DeliveryPage(PageOf[Delivery]):
    """Deliveries, newest first."""


class MessageJob(View):
    """The job that a message is about, as it is when the message is sent."""

    id: str
    project: str
    name: str | None
    labels: dict[str, str]
    state: JobState


class MessageData(View):
    """What happened. A later event may arrive before an earlier one: `event.sequence` has their order."""

    event: Event
    job: MessageJob


class Message(View):
    """The body of a message. The same one may arrive more than once: the header `webhook-id` tells."""

    type: Annotated[str, Field(description="The type of the event, or `ping`")]
    timestamp: datetime
    data: Annotated[MessageData | None, Field(description="null in a ping")]
