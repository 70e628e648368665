"""Sending a message: what is posted, what comes of one try, and when there is another."""

import asyncio
from dataclasses import dataclass
from datetime import timedelta

import httpx2

from service.jobs.presentation import event_view
from service.web.addresses import AddressRefused
from service.web.outgoing import PROJECT
from service.webhooks.records import Claimed, Subject
from service.webhooks.views import PING, Message, MessageData, MessageJob
from workers.contract.addresses import is_address

TIMEOUT_SECONDS = 10.0
_LONGEST_ERROR = 500
_FIRST_PAUSE_SECONDS = 10.0
_LONGEST_PAUSE_SECONDS = 6 * 3600.0
MAX_TRIES = 19  # about three days


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What came of it. `hopeless` = trying again would be pointless."""

    status: int | None = None
    error: str | None = None
    hopeless: bool = False


def message_of(claimed: Claimed) -> Message | None:
    """What is posted; None if the event it tells of is lost."""
    if claimed.delivery.is_ping:
        return Message(type=PING, timestamp=claimed.delivery.created_at, data=None)
    subject = claimed.subject
    if subject is None:
        return None
    data = MessageData(event=event_view(subject.event), job=_job(subject))
    return Message(type=subject.event.type, timestamp=subject.event.created_at, data=data)


async def post(
    client: httpx2.AsyncClient,
    url: str,
    *,
    project: str,
    headers: dict[str, str],
    body: bytes,
    timeout_seconds: float = TIMEOUT_SECONDS,
) -> Answer:
    """Post to a URL of a project; the client guards where that leads. The body of the answer is not read."""
    whose = {PROJECT: project}
    try:
        async with (
            asyncio.timeout(timeout_seconds),
            client.stream("POST", url, headers=headers, content=body, extensions=whose) as got,
        ):
            if got.is_success:
                return Answer(status=got.status_code)
            return Answer(status=got.status_code, error=f"answered {got.status_code}")
    except (TimeoutError, httpx2.TimeoutException):
        return Answer(error=f"no answer within {timeout_seconds:g} s")
    except httpx2.ConnectError as error:
        refused = isinstance(error.__cause__, AddressRefused)
        return _failed(error, hopeless=refused and is_address(httpx2.URL(url).host))
    except (httpx2.HTTPError, httpx2.InvalidURL) as error:
        return _failed(error)


def pause_after(tries: int, *, jitter: float) -> timedelta | None:
    """How long to wait after so many tries in vain; None = give up. `jitter` in [0, 1) spreads it by a fifth."""
    if tries >= MAX_TRIES:
        return None
    seconds = min(_FIRST_PAUSE_SECONDS * 3.0 ** (tries - 1), _LONGEST_PAUSE_SECONDS)
    return timedelta(seconds=seconds * (0.9 + 0.2 * jitter))


def _job(subject: Subject) -> MessageJob:
    return MessageJob(
        id=subject.event.job_id,
        project=subject.project,
        name=subject.name,
        labels=subject.labels,
        state=subject.state,
    )


def _failed(error: Exception, *, hopeless: bool = False) -> Answer:
    text = f"{error}" or type(error).__name__
    return Answer(error=text[:_LONGEST_ERROR], hopeless=hopeless)
