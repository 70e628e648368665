"""What clients see before a job runs, and of all that have run: documents to start from, what would become of one, who
waits, and who has had how much of the cluster."""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import Field

from service.keys.views import PriorityField
from service.web.views import View
from workers.contract.jobs import JobSpec
from workers.contract.spec import TrainSpec


class Estimate(View):
    """What a job may take, by what like jobs took."""

    images_per_second: float | None
    seconds: float | None
    peak_memory_bytes: int | None
    basis: Annotated[str, Field(description="Where the figures come from; without any, that there are none")]


class Plan(View):
    """What would become of a job if it were submitted now. Nothing was written down."""

    spec: Annotated[JobSpec, Field(description="With all defaults filled in")]
    spec_sha256: str
    queue_position: Annotated[int, Field(description="1 = next")]
    estimate: Estimate
    warnings: tuple[str, ...]


class Preset(View):
    """A complete job document to start from."""

    name: str
    spec: TrainSpec


class PresetList(View):
    """All presets."""

    data: tuple[Preset, ...]


MOST_QUEUED = 1000  # that are listed


class QueueEntry(View):
    """A job that waits, and why; its fields are called as a job's."""

    id: str
    project: str = ""
    kind: str = ""
    name: str | None
    created_by: str | None = None
    created_by_name: str | None = None
    priority: PriorityField
    accelerator: str
    workers: int
    queued_at: datetime
    queue_position: Annotated[int, Field(description="1 = next")]
    reason: Annotated[str | None, Field(description="Why it waits, in one word")]
    message: Annotated[str | None, Field(description="The same, for people")]


class Queue(View):
    """The jobs of a project that wait, or of all; positions count those of all projects."""

    data: tuple[QueueEntry, ...]


class Used(View):
    """What the jobs of one principal in a project held of one kind of worker."""

    project: str
    created_by: Annotated[str | None, Field(description="Whose jobs, as jobs themselves say it; null: not known")]
    created_by_name: str | None
    accelerator: Literal["cpu", "gpu"]
    jobs: Annotated[int, Field(description="That held workers in that time, also if they were removed since")]
    worker_seconds: Annotated[float, Field(description="Of `gpu`: GPU-seconds, one GPU to a worker")]


class Usage(View):
    """Of a project, or of all: GPUs before CPUs, and who had most first."""

    since: datetime
    until: datetime
    data: tuple[Used, ...]
