"""What the processes of an attempt printed: byte streams in the object store, written while they run.

What a driver said before it could ship anything, Ray alone has: that is the source `engine`, read from Ray while the
attempt lasts and copied when it is over.
"""

import structlog

from service.cluster import Cluster
from service.cluster.base import ClusterUnreachable
from service.jobs.objects import JobObjects
from service.jobs.records import AttemptRecord
from service.jobs.result_views import Log, LogSource
from workers.contract.keys import DRIVER_LOG, ENGINE_LOG

_MAX_BYTES = 1 << 20

log = structlog.get_logger()


async def read_log(attempt: AttemptRecord, *, source: str, offset: int, objects: JobObjects, cluster: Cluster) -> Log:
    """At most a megabyte from `offset` on; complete once the attempt is over and its logs are copied."""
    final = attempt.ended_at is not None and attempt.log_due_until is None
    starts = await objects.log_starts(attempt.job_id, attempt.number, source)
    if not starts and source == ENGINE_LOG and not final:
        data = await _from_engine(attempt, cluster)
        return cut(data, attempt=attempt.number, source=source, offset=offset, start=0, final=False)
    start = max((start for start in starts if start <= offset), default=0)
    data, reached = b"", start
    for each in (each for each in starts if each >= start):
        if each != reached or reached - offset >= _MAX_BYTES:
            break  # the chunk between is still to come, or this is enough for one answer
        data += await objects.log_chunk(attempt.job_id, attempt.number, source, each)
        reached = start + len(data)
    final = final and (not starts or reached > starts[-1])
    return cut(data, attempt=attempt.number, source=source, offset=offset, start=start, final=final)


async def log_sources(attempt: AttemptRecord, *, objects: JobObjects) -> tuple[LogSource, ...]:
    """The driver first, then the ranks, then what the engine kept."""
    found = await objects.log_sources(attempt.job_id, attempt.number)
    ordered = sorted(found, key=lambda name: (name != DRIVER_LOG, name == ENGINE_LOG, name))
    sizes = [await _size(attempt, source, objects) for source in ordered]
    return tuple(LogSource(source=source, num_bytes=size) for source, size in zip(ordered, sizes, strict=True) if size)


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
