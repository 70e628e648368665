"""What the processes of an attempt printed: byte streams in the object store, written while they run.

What a driver said before it could ship anything, Ray alone has: that is the source `engine`, read from Ray while the
attempt lasts and copied when it is over.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

import structlog

from service.cluster import Cluster
from service.cluster.base import ClusterUnreachable
from service.jobs.objects import JobObjects
from service.jobs.records import AttemptRecord
from service.jobs.result_views import Log, LogSource
from workers.contract.keys import DRIVER_LOG, ENGINE_LOG

_MAX_BYTES = 1 << 20
_CHUNKS_AT_A_TIME = 8  # of the store's threads, which all others need, too

log = structlog.get_logger()


@dataclass(slots=True)
class LogReader:
    """Reads logs, one piece after the other.

    What goes on where the piece before ended is asked for by its name: a process that prints much leaves a chunk every
    other second, and a list of all of them takes dozens of requests by the end of a day.
    """

    objects: JobObjects
    cluster: Cluster
    _end: tuple[AttemptRecord, str, int] | None = None  # attempt, source and byte where the last chunk ended

    async def read(self, attempt: AttemptRecord, *, source: str, offset: int) -> Log:
        """At most a megabyte from `offset` on; complete once the attempt is over and its logs are copied."""
        final = _is_final(attempt)
        start, last = offset, 0
        if final or self._end != (attempt, source, offset):
            starts = await self.objects.log_starts(attempt.job_id, attempt.number, source)
            if not starts and source == ENGINE_LOG and not final:
                data = await _from_engine(attempt, self.cluster)
                return cut(data, attempt=attempt.number, source=source, offset=offset, start=0, final=False)
            start = max((start for start in starts if start <= offset), default=0)
            last = max(starts, default=-1)
        data = await self._chunks(attempt, source, start=start, offset=offset)
        end = start + len(data)
        piece = cut(data, attempt=attempt.number, source=source, offset=offset, start=start, final=final and end > last)
        self._end = (attempt, source, end) if piece.next_offset == end else None
        return piece

    async def _chunks(self, attempt: AttemptRecord, source: str, *, start: int, offset: int) -> bytes:
        """Those from `start` on, up to one that is still to come, or as many as one answer holds behind `offset`."""
        data, most = b"", offset - start + _MAX_BYTES
        while len(data) < most:
            chunk = await self.objects.log_chunk(attempt.job_id, attempt.number, source, start + len(data))
            if not chunk or (data and len(data) + len(chunk) > most):
                break
            data += chunk
        return data


async def read_tail(attempt: AttemptRecord, *, source: str, lines: int, objects: JobObjects, cluster: Cluster) -> Log:
    """The last lines, at most a megabyte of them. No more of the log is read than the chunks that they lie in."""
    final = _is_final(attempt)
    starts = await objects.log_starts(attempt.job_id, attempt.number, source)
    if not starts and source == ENGINE_LOG and not final:
        data, start = await _from_engine(attempt, cluster), 0
    else:
        data, start = await _newest(attempt, source, starts, lines=lines, objects=objects)
    final = final and (not starts or start + len(data) > starts[-1])
    offset = start + tail_start(data, lines)
    return cut(data, attempt=attempt.number, source=source, offset=offset, start=start, final=final)


def tail_start(data: bytes, lines: int) -> int:
    """Where the last lines begin, or as many of them as one answer holds; a last one need not be ended."""
    begin, end = len(data) - data.endswith(b"\n"), len(data)
    for _ in range(lines):
        begin = data.rfind(b"\n", 0, begin)
        if begin < 0:
            break
    begin, earliest = begin + 1, end - _MAX_BYTES
    if begin >= earliest:
        return begin
    newline = data.find(b"\n", earliest, end - 1)
    return earliest if newline < 0 else newline + 1


async def log_sources(attempt: AttemptRecord, *, objects: JobObjects) -> tuple[LogSource, ...]:
    """The driver first, then the ranks, then what the engine kept."""
    found = await objects.log_sources(attempt.job_id, attempt.number)
    ordered = sorted(found, key=lambda name: (name != DRIVER_LOG, name == ENGINE_LOG, name))
    sizes = [await _size(attempt, source, objects) for source in ordered]
    return tuple(LogSource(source=source, num_bytes=size) for source, size in zip(ordered, sizes, strict=True) if size)


def _is_final(attempt: AttemptRecord) -> bool:
    """Whether nothing is to come any more, of any process."""
    return attempt.ended_at is not None and attempt.log_due_until is None


async def _newest(
    attempt: AttemptRecord, source: str, starts: Sequence[int], *, lines: int, objects: JobObjects
) -> tuple[bytes, int]:
    """As many of the newest chunks as hold so many lines, or one answer, and the byte where they begin."""
    data, begin, left = b"", 0, list(starts)
    while left and data.count(b"\n") <= lines and len(data) <= _MAX_BYTES:
        left, some = left[:-_CHUNKS_AT_A_TIME], left[-_CHUNKS_AT_A_TIME:]
        chunks = [objects.log_chunk(attempt.job_id, attempt.number, source, start) for start in some]
        for start, chunk in reversed(list(zip(some, await asyncio.gather(*chunks), strict=True))):
            follows = start + len(chunk) == begin  # else a chunk between is still to come
            data, begin = chunk + data if follows else chunk, start
    return data, begin


async def _size(attempt: AttemptRecord, source: str, objects: JobObjects) -> int:
    starts = await objects.log_starts(attempt.job_id, attempt.number, source)
    return (
        starts[-1] + len(await objects.log_chunk(attempt.job_id, attempt.number, source, starts[-1])) if starts else 0
    )


async def _from_engine(attempt: AttemptRecord, cluster: Cluster) -> bytes:
    try:
        return (await cluster.logs(attempt.submission_id)).encode()
    except ClusterUnreachable as error:
        log.warning("log.unreachable", job_id=attempt.job_id, attempt=attempt.number, error=str(error))
        return b""


def cut(data: bytes, *, attempt: int, source: str, offset: int, start: int, final: bool) -> Log:
    """A piece that ends between two characters, so that pieces can be joined. `data` begins at the byte `start`."""
    here = max(offset - start, 0)
    piece = data[here : here + _MAX_BYTES]
    while piece and here + len(piece) < len(data) and data[here + len(piece)] & 0xC0 == 0x80:
        piece = piece[:-1]  # the next byte would continue a character
    end = here + len(piece)
    return Log(
        attempt=attempt,
        source=source,
        text=piece.decode(errors="replace"),
        next_offset=start + end if piece else offset,
        complete=final and end >= len(data),
    )
