"""What a process prints as a stream, from attempt to attempt."""

import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace

import structlog
from fastapi.sse import ServerSentEvent

from service.errors import AttemptNotFound, DatabaseUnavailable, StorageUnavailable
from service.jobs.records import JobRecord
from service.jobs.result_views import Log
from service.streams.response import PING, Messages
from service.streams.shutdown import Closing
from service.streams.silence import Silence
from service.streams.views import END, LOG, RESET, LogReset, StreamEnd

log = structlog.get_logger()

_POLL_SECONDS = 1.0
_ID = re.compile(r"(?P<attempt>[0-9]{1,9}):(?P<source>driver|engine|rank-[0-9]{4}):(?P<offset>[0-9]{1,18})")


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A place in the log of one attempt, by its byte offset. Attempt 0 = the first has not begun."""

    attempt: int
    source: str
    offset: int

    def __str__(self) -> str:
        return f"{self.attempt}:{self.source}:{self.offset}"

    @classmethod
    def parsed(cls, text: str) -> "Place | None":
        found = _ID.fullmatch(text)
        return cls(attempt=int(found[1]), source=found[2], offset=int(found[3])) if found else None


ReadJob = Callable[[], Awaitable[JobRecord | None]]
ReadLog = Callable[[Place], Awaitable[Log]]


async def log_messages(
    job: JobRecord,
    last_id: str | None,
    *,
    source: str,
    attempt: int | None,
    closing: Closing,
    read_job: ReadJob,
    read_log: ReadLog,
    ping_seconds: float,
    poll_seconds: float = _POLL_SECONDS,
) -> Messages:
    """The log after `last_id`; without one, of this attempt or else the latest, from its first byte on.

    Without an `attempt` it goes on into those that follow. An id that is none of this log starts it again (`reset`).
    """
    start = Place(attempt=attempt or job.attempt, source=source, offset=0)
    place = start if last_id is None else _known(last_id, start, job=job, follows=attempt is None)
    if place is None:
        place = start
        reset = LogReset(attempt=place.attempt, source=source).model_dump_json()
        yield ServerSentEvent(event=RESET, raw_data=reset, id=str(place))
    silence = Silence(closing=closing, poll_seconds=poll_seconds, ping_seconds=ping_seconds)
    while not closing.has_begun:
        now, piece = await _look(job, place, read_job, read_log)
        if piece.text:
            place = replace(place, offset=piece.next_offset)
            silence.broken()
            yield ServerSentEvent(event=LOG, raw_data=piece.model_dump_json(), id=str(place))
            continue
        if piece.complete and (attempt or (now.state.is_terminal and now.attempt == place.attempt)):
            yield ServerSentEvent(event=END, raw_data=StreamEnd(state=now.state).model_dump_json(), id=str(place))
            return
        if piece.complete and now.attempt > place.attempt:
            place = Place(attempt=place.attempt + 1, source=source, offset=0)
            continue
        if await silence.goes_on():
            yield PING


def _known(last_id: str, start: Place, *, job: JobRecord, follows: bool) -> Place | None:
    place = Place.parsed(last_id)
    if place is None or place.source != start.source or place.attempt > job.attempt:
        return None
    return place if follows or place.attempt == start.attempt else None


async def _look(job: JobRecord, place: Place, read_job: ReadJob, read_log: ReadLog) -> tuple[JobRecord, Log]:
    """The job first: if that has ended, all that it printed is there to be read. An outage looks like silence."""
    silence = Log(attempt=place.attempt, source=place.source, text="", next_offset=place.offset, complete=False)
    nothing = silence.model_copy(update={"complete": True})
    try:
        job = await read_job() or job
        piece = await read_log(place) if place.attempt else nothing
    except AttemptNotFound:  # a number that the service claimed to fence the one before, which nobody had
        return job, nothing
    except (DatabaseUnavailable, StorageUnavailable) as error:
        log.warning("stream.waits", job_id=job.id, error=error.detail)
        return job, silence
    return job, piece
