"""The log of an attempt: from the engine while it runs, from its copy in the object store afterwards."""

import structlog

from service.cluster import Cluster
from service.cluster.base import ClusterUnreachable
from service.jobs.objects import JobObjects
from service.jobs.records import AttemptRecord
from service.jobs.views import Log

_MAX_BYTES = 1 << 20

log = structlog.get_logger()


async def read_log(attempt: AttemptRecord, *, offset: int, objects: JobObjects, cluster: Cluster) -> Log:
    """At most a megabyte from `offset` on. While the engine does not answer there is nothing more to read yet."""
    copy = await objects.log(attempt.job_id, attempt.number)
    if copy is not None:
        return cut(copy, attempt=attempt.number, offset=offset, final=True)
    given_up = attempt.ended_at is not None and attempt.log_due_until is None
    try:
        text = "" if given_up else await cluster.logs(attempt.submission_id)
    except ClusterUnreachable as error:
        log.warning("log.unreachable", job_id=attempt.job_id, attempt=attempt.number, error=str(error))
        text = ""
    return cut(text.encode(), attempt=attempt.number, offset=offset, final=given_up)


def cut(data: bytes, *, attempt: int, offset: int, final: bool) -> Log:
    """A piece that ends between two characters, so that pieces can be joined."""
    piece = data[offset : offset + _MAX_BYTES]
    while piece and offset + len(piece) < len(data) and data[offset + len(piece)] & 0xC0 == 0x80:
        piece = piece[:-1]  # the next byte would continue a character
    end = offset + len(piece)
    return Log(
        attempt=attempt,
        text=piece.decode(errors="replace"),
        next_offset=end,
        complete=final and end >= len(data),
    )
