"""What clients send and get. Pydantic and the job contract only, because the SDK is built on it."""

from datetime import datetime
from enum import StrEnum
from typing import Annotated

from pydantic import Field

from service.web.views import View
from workers.contract.document import Document
from workers.contract.records import CheckpointFile, Progress
from workers.contract.spec import TrainSpec


class JobState(StrEnum):
    """Where a job stands."""

    QUEUED = "queued"
    STARTING = "starting"
    RUNNING = "running"
    CANCELLING = "cancelling"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_terminal(self) -> bool:
        """A terminal state is final."""
        return self in {JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED}


class JobCreate(Document):
    """A request to train."""

    name: Annotated[str | None, Field(min_length=1, max_length=100, description="For people; need not be unique")] = (
        None
    )
    spec: TrainSpec


class Condition(View):
    """Something that is true or not of a job, whatever its state: `BackendReachable`."""

    type: str
    status: bool
    message: str | None
    since: datetime


class Job(View):
    """One training job."""

    id: str
    name: str | None
    state: JobState
    reason: Annotated[str | None, Field(description="Why it is in this state, in one word")]
    message: Annotated[str | None, Field(description="The same, for people")]
    spec: TrainSpec
    spec_sha256: str
    created_at: datetime
    started_at: Annotated[datetime | None, Field(description="When it left the queue")]
    ended_at: datetime | None
    attempt: Annotated[int, Field(description="The attempt that runs or ran last; 0 before the first")]
    progress: Progress | None
    mlflow_url: Annotated[str | None, Field(description="The page of its MLflow run, once there is one")]
    conditions: tuple[Condition, ...]
    links: dict[str, str]


class JobPage(View):
    """Jobs, newest first."""

    data: tuple[Job, ...]
    has_more: bool
    next_cursor: str | None


class Event(View):
    """Something that happened to a job. `sequence` counts 1, 2, 3 ... within the job, without gaps."""

    sequence: int
    type: str
    state: JobState
    attempt: int
    reason: str | None
    message: str | None
    created_at: datetime


class EventPage(View):
    """Events in order. Ask again `after` the last sequence for the rest."""

    data: tuple[Event, ...]
    has_more: bool


class Log(View):
    """What an attempt's driver printed, from a byte offset on. Ask again at `next_offset` unless it is `complete`."""

    attempt: int
    text: str
    next_offset: int
    complete: Annotated[bool, Field(description="Nothing will follow")]


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


class SampleList(View):
    """The sample grids of a job, by the number of images seen when they were drawn."""

    data: tuple[int, ...]


class Preset(View):
    """A complete job document to start from."""

    name: str
    spec: TrainSpec


class PresetList(View):
    """All presets."""

    data: tuple[Preset, ...]
