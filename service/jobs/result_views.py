"""What clients get of what jobs leave. Pydantic and the job contract only, because the SDK is built on it."""

from datetime import datetime
from typing import Annotated

from pydantic import Field

from service.jobs.lifecycle import JobState
from service.web.views import View
from workers.contract.evaluation import Evaluation
from workers.contract.records import CheckpointFile, TimeBreakdown

MOST_TAIL_LINES = 10_000


class Attempt(View):
    """One submission of a job to the engine."""

    number: int
    submission_id: str
    created_at: datetime
    submitted_at: datetime | None
    ended_at: datetime | None
    from_images: Annotated[int, Field(description="Images seen at the checkpoint it started from")]
    reason: Annotated[str | None, Field(description="Why it ended, if not by success")]
    message: str | None
    ledger: Annotated[
        TimeBreakdown | None,
        Field(description="What its time went for; null until its workers say so, or while the store is away"),
    ]
    versions: Annotated[
        dict[str, str],
        Field(description="Of the libraries that its first worker computes with, and its device; empty as above"),
    ] = Field(default_factory=dict)


class AttemptList(View):
    """The attempts of a job, oldest first."""

    data: tuple[Attempt, ...]


class Event(View):
    """Something that happened to a job. `sequence` counts 1, 2, 3 ... within the job, without gaps."""

    sequence: int
    type: str
    state: JobState
    attempt: int
    reason: str | None
    message: str | None
    actor: Annotated[str | None, Field(description="Who asked for it; null: the service did it by itself")]
    created_at: datetime


class EventPage(View):
    """Events in order. Ask again `after` the last sequence for the rest."""

    data: tuple[Event, ...]
    has_more: bool


class Log(View):
    """What one process of an attempt printed, from a byte offset on. Ask again at `next_offset` unless `complete`."""

    attempt: int
    source: str
    text: str
    next_offset: int
    complete: Annotated[bool, Field(description="Nothing will follow")]


class LogSource(View):
    """One process whose log there is: `driver`, `rank-0000` and so on, `engine` (what Ray kept of all of them)."""

    source: str
    num_bytes: int


class LogSourceList(View):
    """What there is to read of an attempt."""

    attempt: int
    data: tuple[LogSource, ...]


class Checkpoint(View):
    """A committed checkpoint."""

    images_seen: int
    attempt: int
    created_at: datetime
    uri: str
    num_bytes: int
    files: tuple[CheckpointFile, ...]


class CheckpointList(View):
    """The checkpoints of a job, oldest first."""

    data: tuple[Checkpoint, ...]


class ResultFile(View):
    """A file that a job has left. Those of a training job are its checkpoints and sample grids instead."""

    name: str
    url: Annotated[
        str | None,
        Field(
            description="Where to fetch it without a key, for an hour (less where the service's own credentials for S3 "
            "end sooner: ask again); null: only from here"
        ),
    ]


class ResultFileList(View):
    """The files that a job has left; `result.json` says what they are, and is the last one written."""

    data: tuple[ResultFile, ...]


class EvaluationList(View):
    """What evaluation jobs have found of this job's checkpoints, by images seen."""

    data: tuple[Evaluation, ...]


class Sample(View):
    """A sample grid, as a training draws them."""

    images_seen: Annotated[int, Field(description="When it was drawn")]


class SampleList(View):
    """The sample grids of a job, by images seen."""

    data: tuple[Sample, ...]
