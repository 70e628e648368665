"""The bodies of messages."""

from service.jobs.presentation import event_view
from service.webhooks.records import Claimed, DeliveryRecord, Subject
from service.webhooks.views import PING, Message, MessageData, MessageJob


def is_ping(delivery: DeliveryRecord) -> bool:
    return not delivery.job_id


def message_of(claimed: Claimed) -> Message | None:
    """What is posted; None if the event it tells of is lost."""
    if is_ping(claimed.delivery):
        return Message(type=PING, timestamp=claimed.delivery.created_at, data=None)
    subject = claimed.subject
    if subject is None:
        return None
    data = MessageData(event=event_view(subject.event), job=_job(subject))
    return Message(type=subject.event.type, timestamp=subject.event.created_at, data=data)


def _job(subject: Subject) -> MessageJob:
    return MessageJob(
        id=subject.event.job_id,
        project=subject.project,
        name=subject.name,
        labels=subject.labels,
        state=subject.state,
    )
