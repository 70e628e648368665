"""What streams send beside the views of jobs. Pydantic only, because the SDK is built on it."""

from service.jobs.lifecycle import JobState
from service.web.views import View

# Messages that are no event of a job; all others are named after the type of their event.
SNAPSHOT = "snapshot"
RESET = "reset"
END = "end"
LOG = "log"
METRICS = "metrics"


class StreamEnd(View):
    """Nothing will follow, unless the job is retried. The client should not come back by itself.

    Also of a stream that was not to follow the job.
    """

    state: JobState


class LogReset(View):
    """What was read before does not belong to this log; it starts again, at its first byte."""

    attempt: int
    source: str


class MetricsReset(View):
    """What was read before does not belong to this job; its rows start again, at the first."""
