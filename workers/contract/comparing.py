"""The document of a comparison of two trainings, and what it finds."""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, Strict, model_validator

from workers.contract.document import Document, Problem, refuse
from workers.contract.importing import OnOneProcess
from workers.contract.records import Timestamp
from workers.contract.sampling import JobId


class CompareSpec(OnOneProcess):
    """A comparison: a training beside its control, by what evaluation jobs have found of both so far."""

    kind: Literal["compare"]
    job_id: JobId
    control_job_id: JobId

    @model_validator(mode="after")
    def _fields_agree(self) -> Self:
        if self.job_id == self.control_job_id:
            refuse(Problem("/control_job_id", "repeated", "is the same job; name another one"))
        return self


class Pair(Document):
    """A measure of both at the same cost."""

    measure: str
    at: Annotated[Literal["images", "seconds"], Field(description="Equal images seen, or equal worker-seconds")]
    images_seen: Annotated[int, Field(description="By the job")]
    control_images_seen: Annotated[float, Field(description="By its control")]
    job: float
    control: float
    difference: Annotated[
        float,
        Field(description="job - control; its interval is 95 %, by differences share by share; null: too few of them"),
    ]
    low: float | None = None
    high: float | None = None


class Side(Document):
    """What a training has cost."""

    job_id: str
    name: Annotated[str | None, Field(description="What people call it")] = None
    images_seen: int
    worker_seconds: Annotated[float, Field(description="Of its steps alone, over all workers")]
    microseconds_per_image: float

    @property
    def title(self) -> str:
        """What people call it, and its id."""
        return f"{self.name} ({self.job_id})" if self.name else self.job_id


class Comparison(Document):
    """Two trainings beside each other."""

    job: Side
    control: Side
    differences: Annotated[
        dict[str, tuple[Any, Any]], Field(description="Fields of their documents: the control's value, then the job's")
    ]
    is_paired: Annotated[
        bool, Field(description="Same images in the same order, with the same noise, by the same code")
    ]
    devices: Annotated[
        tuple[str, ...],
        Strict(False),
        Field(description="What drew their noise: models of GPU, each of which draws other noise of a seed, or CPU"),
    ] = ()
    codes: Annotated[
        tuple[str, ...],
        Strict(False),
        Field(description="Digests of the code that trained them, as far as it is known"),
    ] = ()
    protocol: Annotated[
        dict[str, Any], Field(description="How both were measured: fields of their evaluations; empty in older ones")
    ] = Field(default_factory=dict)
    pairs: Annotated[tuple[Pair, ...], Strict(False)]
    conclusions: Annotated[tuple[str, ...], Strict(False)]
    files: Annotated[tuple[str, ...], Strict(False)]
    ended_at: Timestamp
