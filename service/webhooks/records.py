"""Webhooks and deliveries as values: one row each."""

from dataclasses import dataclass
from datetime import datetime

from service.jobs.lifecycle import JobState
from service.jobs.records import EventRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class WebhookRecord:
    """A webhook. No event types = all."""

    id: str
    project: str
    url: str
    event_types: tuple[str, ...]
    secret: str
    enabled: bool
    created_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryRecord:
    """One message to one webhook. No `due_at` = delivered, or given up. A ping has an empty job id, and sequence 0."""

    id: str
    webhook_id: str
    job_id: str = ""
    sequence: int = 0
    created_at: datetime
    due_at: datetime | None
    tries: int = 0
    delivered_at: datetime | None = None
    last_status: int | None = None
    last_error: str | None = None

    @property
    def is_ping(self) -> bool:
        return not self.job_id


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """What a message tells of: an event, and its job as that is now."""

    event: EventRecord
    project: str
    name: str | None
    labels: dict[str, str]
    state: JobState


@dataclass(frozen=True, slots=True)
class Addressee:
    """To whom a message goes."""

    webhook_id: str
    project: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Claimed:
    """A delivery to make now, and all that it takes. `due_at` of the delivery is the end of our lease on it."""

    delivery: DeliveryRecord
    project: str
    url: str
    secret: str
    subject: Subject | None  # None for a ping, or if the event is lost

    @property
    def addressee(self) -> Addressee:
        return Addressee(self.delivery.webhook_id, self.project)
