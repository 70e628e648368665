"""What a job measures as a stream, row by row and from attempt to attempt."""

from collections.abc import Awaitable, Callable
from contextlib import aclosing

from fastapi.sse import ServerSentEvent

from service.jobs.records import JobRecord
from service.metrics.tail import BEFORE_ALL, Cursor, Row, Standing, follow
from service.streams.response import PING, Messages
from service.streams.shutdown import Closing
from service.streams.silence import Silence
from service.streams.views import END, METRICS, RESET, MetricsReset, StreamEnd
from workers.storage import ObjectStore

_POLL_SECONDS = 1.0


async def metric_messages(
    job: JobRecord,
    last_id: str | None,
    *,
    closing: Closing,
    object_store: ObjectStore,
    read_job: Callable[[], Awaitable[JobRecord | None]],
    waits: bool,
    ping_seconds: float,
    poll_seconds: float = _POLL_SECONDS,
) -> Messages:
    """The rows after `last_id`; without one, all of them. An id that is none of this job starts again (`reset`).

    Ends when there will be no more, or, if it `waits` for none, when all that there are have come.
    """
    state = job.state

    async def standing() -> Standing:
        nonlocal state
        now = await read_job() or job
        state = now.state
        return Standing(attempt=now.attempt, is_over=now.state.is_terminal)

    place = BEFORE_ALL if last_id is None else _known(last_id, job)
    if place is None:
        place = BEFORE_ALL
        yield ServerSentEvent(event=RESET, raw_data=MetricsReset().model_dump_json(), id=str(place))
    silence = Silence(closing=closing, poll_seconds=poll_seconds, ping_seconds=ping_seconds)
    async with aclosing(follow(job.id, place, object_store=object_store, standing=standing, waits=waits)) as pieces:
        async for rows in pieces:
            for row in rows:
                yield _told(row)
                place = row.cursor
                silence.broken()
            is_ping_due = not rows and await silence.goes_on()
            if closing.has_begun:
                return
            if is_ping_due:
                yield PING
    yield ServerSentEvent(event=END, raw_data=StreamEnd(state=state).model_dump_json(), id=str(place))


def _told(row: Row) -> ServerSentEvent:
    return ServerSentEvent(event=METRICS, raw_data=row.content.model_dump_json(), id=str(row.cursor))


def _known(last_id: str, job: JobRecord) -> Cursor | None:
    cursor = Cursor.parsed(last_id)
    return cursor if cursor and cursor.attempt <= job.attempt else None
