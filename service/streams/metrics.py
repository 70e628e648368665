"""What a job measures as a stream, row by row and from attempt to attempt."""

from collections.abc import Awaitable, Callable

import structlog
from fastapi.sse import ServerSentEvent

from service.errors import DatabaseUnavailable, StorageUnavailable
from service.jobs.records import JobRecord
from service.metrics.tail import BEFORE_ALL, Cursor, Row, Tail
from service.streams.response import PING, Messages
from service.streams.shutdown import Closing
from service.streams.silence import Silence
from service.streams.views import END, METRICS, RESET, MetricsReset, StreamEnd
from workers.storage import ObjectStore

log = structlog.get_logger()

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
    place = BEFORE_ALL if last_id is None else _known(last_id, job)
    if place is None:
        place = BEFORE_ALL
        yield ServerSentEvent(event=RESET, raw_data=MetricsReset().model_dump_json(), id=str(place))
    silence = Silence(closing=closing, poll_seconds=poll_seconds, ping_seconds=ping_seconds)
    tail = Tail(object_store, job.id, place)
    while not closing.has_begun:
        rows, may_end = tuple[Row, ...](), False
        try:
            job = await read_job() or job  # first: what is over then has left all its rows
            rows, may_end = await tail.look(job.attempt), job.state.is_terminal or not waits
        except (DatabaseUnavailable, StorageUnavailable) as error:  # it looks like silence
            log.warning("metrics.tail_waits", job_id=job.id, error=error.detail)
        for row in rows:
            yield _told(row)
            place = row.cursor
            silence.broken()
        if rows:
            continue
        if may_end:
            end = StreamEnd(state=job.state).model_dump_json()
            yield ServerSentEvent(event=END, raw_data=end, id=str(place))
            return
        if await silence.goes_on():
            yield PING


def _told(row: Row) -> ServerSentEvent:
    return ServerSentEvent(event=METRICS, raw_data=row.content.model_dump_json(), id=str(row.cursor))


def _known(last_id: str, job: JobRecord) -> Cursor | None:
    cursor = Cursor.parsed(last_id)
    return cursor if cursor and cursor.attempt <= job.attempt else None
