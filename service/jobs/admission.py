"""Who may leave the queue. The queue is ours: a submission that waits inside Ray cannot be stopped."""

from collections.abc import Sequence

from service.jobs.records import JobRecord
from service.jobs.views import JobState


def admit(unfinished: Sequence[JobRecord], *, max_active: int) -> frozenset[str]:
    """The ids of queued jobs that may start now: first come, first served."""
    queued = sorted(job.id for job in unfinished if job.state is JobState.QUEUED)
    free = max_active - (len(unfinished) - len(queued))
    return frozenset(queued[: max(free, 0)])
