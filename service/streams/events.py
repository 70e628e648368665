"""What happened to a job as a stream: every event once, in order, and none left out."""

from collections.abc import Awaitable, Callable

from fastapi.sse import ServerSentEvent

from service.jobs.presentation import event_view
from service.jobs.records import EventRecord, JobRecord
from service.streams.feed import Feed
from service.streams.response import PING, Messages
from service.streams.views import END, RESET, SNAPSHOT, StreamEnd

Show = Callable[[JobRecord], Awaitable[str]]  # the whole job as JSON
_DIGITS = 18  # more would be no number of ours, and perhaps none that a database can compare


async def event_messages(
    job: JobRecord,
    last_id: str | None,
    *,
    feed: Feed,
    read: Callable[[], Awaitable[JobRecord | None]],
    show: Show,
    ping_seconds: float,
) -> Messages:
    """The events after `last_id`; without one, the job as it is and the events after that.

    An id that is not one of this job, or whose successor is lost, is answered by the job as it is, too, in one message
    named `reset`: were it two, a client that is cut between them would be sent back for ever.
    """
    with feed.watching(job) as watch:
        position = _position(last_id, latest=job.event_sequence)
        if position is None:
            yield await _whole(job, SNAPSHOT if last_id is None else RESET, show)
            position = job.event_sequence
        state = job.state if position == job.event_sequence else None
        while not feed.closing.has_begun:
            if state and state.is_terminal and position >= watch.latest:
                yield ServerSentEvent(event=END, raw_data=StreamEnd(state=state).model_dump_json(), id=str(position))
                return
            found = await watch.after(position, patience_seconds=ping_seconds)
            if not found:
                yield PING
            elif found[0].sequence == position + 1:
                for event in found:
                    yield _told(event)
                position, state = found[-1].sequence, found[-1].state
            elif now := await read():
                yield await _whole(now, RESET, show)
                position, state = now.event_sequence, now.state
            else:
                return


async def _whole(job: JobRecord, name: str, show: Show) -> ServerSentEvent:
    return ServerSentEvent(event=name, raw_data=await show(job), id=str(job.event_sequence))


def _told(event: EventRecord) -> ServerSentEvent:
    return ServerSentEvent(event=event.type, raw_data=event_view(event).model_dump_json(), id=str(event.sequence))


def _position(last_id: str | None, *, latest: int) -> int | None:
    if last_id is None or not (last_id.isascii() and last_id.isdigit()) or len(last_id) > _DIGITS:
        return None
    return int(last_id) if int(last_id) <= latest else None
