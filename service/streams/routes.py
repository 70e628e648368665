"""The REST interface of streams.

Each has a path of its own beside the one that answers with JSON. Negotiated by `Accept`, one operation would have two
sets of parameters and answers, which OpenAPI cannot tell apart; and whoever forgets the header, as people with curl do,
would get a page instead of a stream.
"""

from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import Depends, Header, Query

from service.errors import AttemptNotFound, JobGone, JobNotFound, TooManyStreams
from service.jobs.dependencies import AttemptNumber, ReadableJob, Source
from service.jobs.result_views import Event, Log
from service.jobs.views import Job
from service.metrics.views import MetricRow
from service.streams.response import EventStream
from service.streams.usecases import Streams
from service.streams.views import LogReset, MetricsReset, StreamEnd
from service.web.description import COMPONENTS
from service.web.problems import documented
from service.web.routers import of_state, v1_router
from service.web.views import View
from workers.contract.keys import DRIVER_LOG

router = v1_router("streams", TooManyStreams)
MODELS = (MetricRow, LogReset, MetricsReset, StreamEnd)  # what messages hold and no other route answers with


def _messages(*models: type[View]) -> dict[int | str, dict[str, Any]]:
    """A stream of messages that hold one of these each.

    Before OpenAPI 3.2, the schema of a stream of events is that of each of them.
    """
    held = [{"$ref": COMPONENTS.format(model=model.__name__)} for model in models]
    message = {
        "type": "object",
        "required": ["event", "data"],
        "properties": {
            "event": {"type": "string", "description": "What the message tells"},
            "data": {"type": "string", "contentMediaType": "application/json", "contentSchema": {"anyOf": held}},
            "id": {"type": "string", "description": "Where to go on after it"},
            "retry": {"type": "integer", "description": "Milliseconds to wait before coming back"},
        },
    }
    return {200: {"description": "Messages", "content": {EventStream.media_type: {"schema": message}}}}


_LOOKUP_RESPONSES = documented(JobNotFound, JobGone)
_RULES = """
Server-sent events. Come back with the id of the last message, in the header `Last-Event-ID` or as `after`, and nothing
is left out or sent twice. Comments come every 15 s. A stream ends with the message `end`; without it, it was cut, as
every stream is after 15 minutes and when the service ends.
"""


Service = Annotated[Streams, of_state("streams")]


async def _place(job: ReadableJob, streams: Service) -> AsyncIterator[None]:
    with streams.place(job.project):
        yield


async def _last_id(
    after: Annotated[str | None, Query(max_length=100, description="The id of the last message that was read")] = None,
    last_event_id: Annotated[
        str | None, Header(alias="Last-Event-ID", description="The same; it counts if both are given")
    ] = None,
) -> str | None:
    return last_event_id or after or None


LastId = Annotated[str | None, Depends(_last_id)]
_STREAM: dict[str, Any] = {"response_class": EventStream, "status_code": 200, "dependencies": [Depends(_place)]}


@router.get(
    "/jobs/{job_id}/events/stream",
    summary="Watch what happens to a job",
    description=f"{_RULES}\nThe first message is `snapshot`, the whole job; the others are named after their events. "
    "The id is the event's sequence. An id that is not known is answered with `reset`, the whole job again.",
    responses=_messages(Job, Event, StreamEnd) | _LOOKUP_RESPONSES,
    **_STREAM,
)
async def stream_events(job: ReadableJob, last_id: LastId, streams: Service) -> EventStream:
    return EventStream(streams.events(job, last_id))


@router.get(
    "/jobs/{job_id}/logs/stream",
    summary="Watch what a process prints",
    description=f"{_RULES}\nMessages are named `log` and hold pieces as the path without `/stream` has them; the id is "
    "`attempt:source:offset` behind the piece. Without `attempt` it begins with the latest and goes on into those that "
    "follow. An id of another log is answered with `reset`, and the log from its first byte.",
    responses=_messages(Log, LogReset, StreamEnd) | documented(JobNotFound, AttemptNotFound, JobGone),
    **_STREAM,
)
async def stream_logs(
    job: ReadableJob, last_id: LastId, streams: Service, attempt: AttemptNumber = None, source: Source = DRIVER_LOG
) -> EventStream:
    return EventStream(await streams.logs(job, last_id, source=source, attempt=attempt))


@router.get(
    "/jobs/{job_id}/metrics/stream",
    summary="Watch what a job measures",
    description=f"{_RULES}\nMessages are named `metrics` and hold one row each, of all attempts from the first on; the "
    "id is `attempt:chunk:row`. An id that is not known is answered with `reset`, and all rows again.",
    responses=_messages(MetricRow, MetricsReset, StreamEnd) | _LOOKUP_RESPONSES,
    **_STREAM,
)
async def stream_metrics(
    job: ReadableJob,
    last_id: LastId,
    streams: Service,
    follow: Annotated[bool, Query(description="false: end when all that there is has come")] = True,
) -> EventStream:
    return EventStream(streams.metrics(job, last_id, waits=follow))
