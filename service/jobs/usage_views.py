"""Who has had how much of the cluster, as clients see it."""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import Field

from service.web.views import View


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
