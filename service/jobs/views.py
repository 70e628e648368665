"""What clients send and get. Pydantic and the job contract only, because the SDK is built on it."""

from dataclasses import replace
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, ConfigDict, Field, SerializeAsAny, ValidationError, model_validator

from service.jobs.lifecycle import JobState
from service.keys.views import PriorityField
from service.priorities import Priority
from service.web.views import PLAIN_TEXT, Changes, PageOf, View, without_default
from workers.contract.curves import WHAT_IS_BEST, is_best_where_lowest
from workers.contract.data import Digest
from workers.contract.document import Document, Problem, problems_of, refuse
from workers.contract.evaluation import FEWEST_IMAGES, EvaluateSpec, TimelineSteps
from workers.contract.features import Features, Lite0
from workers.contract.jobs import JobSpec
from workers.contract.locations import NamedFile
from workers.contract.model import SamplerChanges
from workers.contract.presets import PRESETS
from workers.contract.records import Progress
from workers.contract.sampling import MOST_PASS_IMAGES, Classes, PassImages, Seed, Subject
from workers.contract.spec import TrainSpec

__all__ = ["JobState", "Priority"]  # for the SDK, which imports views only

Name = Annotated[
    Annotated[str, Field(min_length=1, max_length=100, pattern=PLAIN_TEXT)] | None,
    Field(description="For people; need not be unique"),
]
_LabelKey = Annotated[str, Field(pattern=r"^[A-Za-z0-9]([A-Za-z0-9._/-]{0,61}[A-Za-z0-9])?$")]
_LabelValue = Annotated[str, Field(max_length=100, pattern=PLAIN_TEXT)]
OURS = "cdm."  # begins the labels that the service gives, by which it finds jobs: nobody else may give or change them


def _not_ours(labels: dict[str, str]) -> dict[str, str]:
    ours = [key for key in labels if key.startswith(OURS)]
    refuse(*(Problem(f"/{key}", "reserved", f"labels that begin with {OURS} are the service's") for key in ours))
    return labels


_AnyLabels = Annotated[dict[_LabelKey, _LabelValue], Field(max_length=32)]
Labels = Annotated[
    _AnyLabels,
    AfterValidator(_not_ours),
    Field(description=f"For people and filters; those that begin with `{OURS}` are the service's"),
]
MaxRuntime = Annotated[
    float | None,
    Field(
        gt=0,
        le=1e8,
        allow_inf_nan=False,
        description="Seconds from when it leaves the queue, also while nodes come; lets it fill gaps",
    ),
]


Kind = Literal["train", "sample", "evaluate", "import", "compare"]


# Of requests.
WantedPriority = Annotated[
    PriorityField,
    Field(
        description="At most the max_priority of the project; unless given, normal, or that if it is lower",
        json_schema_extra=without_default,
    ),
]


OF_JOB, AT_IMAGES = "cdm.evaluates", "cdm.images_seen"  # labels of evaluations that follow a training
CONTROL_OF, COMPARES = "cdm.control_of", "cdm.compares"  # of its control, and of the comparison with that


class EvaluateEach(Document):
    """Evaluations that follow a training by themselves, in the lowest class of priority."""

    every_images: Annotated[
        int | None,
        Field(ge=1, lt=2**63, description="The first checkpoint behind each multiple; null: all"),
    ] = None
    num_images: Annotated[int, Field(ge=FEWEST_IMAGES, le=1_000_000)] = 1000
    repeats: Annotated[int, Field(ge=1, le=100)] = 1
    first_seed: Seed = 0
    sampler: SamplerChanges | None = None
    classes: Classes | None = None
    features: Features = Lite0(kind="lite0")
    reference: NamedFile | None = None
    timeline_steps: TimelineSteps = (4, 8, 18)
    drift_images: Annotated[int, Field(ge=0, le=100_000)] = 256
    held_out: Annotated[
        Digest | None,
        Field(description="An imported image set that it does not learn from: loss and gap are measured there, too"),
    ] = None
    average: Annotated[str | None, Field(description="null: what sample grids are of")] = None
    workers: Annotated[int, Field(gt=0, le=1024, description="Of the kind that the training has")] = 1
    pass_images: Annotated[PassImages | None, Field(description="null: as a worker of the training")] = None

    def spec_of(self, training: TrainSpec, *, job_id: str, images_seen: int | None) -> EvaluateSpec:
        """The evaluation of a checkpoint of this training.

        Raises:
            ValidationError: fields are wrong together, or with the training.
        """
        same = self.model_dump(exclude={"every_images", "average", "workers", "pass_images"})
        return EvaluateSpec.model_validate(
            same
            | {
                "kind": "evaluate",
                "checkpoint": {"job_id": job_id, "images_seen": images_seen, "average": self.average},
                "compute": {
                    "accelerator": training.compute.accelerator,
                    "precision": training.compute.precision,
                    "workers": self.workers,
                },
                "pass_images": self.pass_images or min(training.pass_images, MOST_PASS_IMAGES),
            }
        )


class JobCreate(Document):
    """A request for a job: to train, draw images, evaluate a checkpoint, import images, or compare trainings."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"name": "first", "spec": PRESETS["smoke"].model_dump(mode="json")}]}
    )

    name: Name = None
    spec: JobSpec
    labels: Labels = Field(default_factory=dict)
    priority: WantedPriority = Priority.NORMAL
    max_runtime_seconds: MaxRuntime = None
    evaluations: Annotated[
        EvaluateEach | None, Field(description="Of its checkpoints, if it is a training; null: none by themselves")
    ] = None
    control: Annotated[
        Literal["edm"] | None,
        Field(description="edm: also train without the consistency term, alike in all else, and compare the two"),
    ] = None

    @model_validator(mode="after")
    def _fields_agree(self) -> Self:
        problems = []
        if self.evaluations and self.spec.kind == "train":
            problems += _evaluation_problems(self.evaluations, self.spec)
        elif self.evaluations:
            problems.append(Problem("/evaluations", "no_effect", "only trainings have checkpoints; leave it out"))
        if self.control and (self.spec.kind != "train" or self.spec.objective.consistency is None):
            reason = "only trainings with objective.consistency have one; leave it out"
            problems.append(Problem("/control", "no_effect", reason))
        elif self.control and not self.evaluations:
            reason = "a control is compared by evaluations: say which, {} for the usual ones"
            problems.append(Problem("/evaluations", "required", reason))
        refuse(*problems)
        return self


def _evaluation_problems(wanted: EvaluateEach, training: TrainSpec) -> list[Problem]:
    """What would be wrong with each evaluation that follows, said before there is any."""
    try:
        spec = wanted.spec_of(training, job_id="job_of_the_training", images_seen=None)
    except ValidationError as error:
        found = problems_of(error)
    else:
        found = spec.problems_with(Subject.of("the training", training, None))
    return [replace(each, pointer=f"/evaluations{each.pointer.removeprefix('/checkpoint')}") for each in found]


class JobUpdate(Changes):
    """What can be changed of a job: the fields that are given."""

    name: Name = None
    labels: Annotated[
        _AnyLabels, Field(description=f"In place of all but those that begin with `{OURS}`, which cannot be changed")
    ] = Field(default_factory=dict)
    priority: WantedPriority = Priority.NORMAL
    max_runtime_seconds: MaxRuntime = None


class JobPart(StrEnum):
    """Of what a job leaves in the object store."""

    CHECKPOINTS = "checkpoints"
    SAMPLES = "samples"
    LOGS = "logs"
    RESULTS = "results"
    METRICS = "metrics"
    EXPORTS = "exports"


class CancelRequest(Document):
    """How to end a job."""

    mode: Annotated[Literal["graceful", "now"], Field(description="now: without waiting for a last checkpoint")] = (
        "graceful"
    )
    grace_seconds: Annotated[
        float | None, Field(ge=0, le=3600, allow_inf_nan=False, description="Until force; default: the service's")
    ] = None


def _best_where_lowest(curve: str) -> str:
    if not is_best_where_lowest(curve):
        refuse(Problem("", "no_best", WHAT_IS_BEST))
    return curve


class ForkSource(Document):
    """Which checkpoint to start from; by default the newest."""

    images_seen: Annotated[int | None, Field(ge=1, lt=2**63, description="The newest checkpoint at or below")] = None
    best: Annotated[
        Annotated[str, Field(min_length=1, max_length=200, pattern=PLAIN_TEXT), AfterValidator(_best_where_lowest)]
        | None,
        Field(description="The checkpoint where this curve is lowest, as `eval/KD-ENL0-1k`: of evaluations made alike"),
    ] = None


class ForkCreate(Document):
    """A request to go on from a checkpoint of another job, with changes."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"overrides": {"duration_images": 640}}]})

    name: Name = None
    source: ForkSource = ForkSource()
    overrides: Annotated[
        dict[str, Any],
        Field(
            description="Parts of a job document, merged into the parent's: of an object the fields that are given, or "
            "all of it if it is of another kind; anything else is replaced. null is a value"
        ),
    ] = Field(default_factory=dict)
    labels: Labels = Field(default_factory=dict)
    priority: WantedPriority = Priority.NORMAL
    max_runtime_seconds: MaxRuntime = None
    evaluations: Annotated[
        EvaluateEach | None, Field(description="Of its checkpoints; unless given, as the parent's; null: none")
    ] = None


class Condition(View):
    """Something that is true or not of a job, whatever its state.

    `BackendReachable`, `Heartbeating`, `Progressing`, `ResourcesAvailable` (the cluster has room for its workers),
    `TrackingCurrent` (MLflow and the store take what it measures).
    """

    type: str
    status: bool
    message: str | None
    since: datetime


class Parent(View):
    """The checkpoint of another job that this one goes on from, or is drawn from."""

    job_id: str
    images_seen: int


class Job(View):
    """One job."""

    id: str
    project: str
    name: str | None
    labels: dict[str, str]
    priority: PriorityField
    max_runtime_seconds: float | None
    state: JobState
    reason: Annotated[str | None, Field(description="Why it is in this state, in one word; why it waits, if it does")]
    message: Annotated[str | None, Field(description="The same, for people")]
    queue_position: Annotated[
        int | None,
        Field(description="1 = next; null outside the queue, in lists, and in answers to what changes the job"),
    ]
    evaluations: Annotated[
        SerializeAsAny[EvaluateEach] | None, Field(description="What follows its checkpoints by itself")
    ] = None
    control_job_id: Annotated[
        str | None, Field(description="The training without consistency that it is to be compared with")
    ] = None
    dataset_digest: Annotated[
        str | None, Field(description="Of the image set that it imports or learns from, once that is known")
    ] = None
    unclean: Annotated[bool, Field(description="It was once taken from the engine by force, without a last checkpoint")]
    spec: SerializeAsAny[JobSpec]  # what the service has kept is sent as it is: a later release may have taken it
    spec_sha256: str
    parent: Parent | None
    created_at: datetime
    created_by: Annotated[
        str | None,
        Field(description="Who submitted it, or the training that it follows, as in the audit; null: not known"),
    ] = None
    created_by_name: Annotated[
        str | None, Field(description="For people: the name of the API key, or the e-mail address of the token")
    ] = None
    queued_at: datetime | None
    started_at: Annotated[datetime | None, Field(description="When it last left the queue")]
    ended_at: datetime | None
    archived_at: datetime | None
    attempt: Annotated[int, Field(description="The attempt that runs or ran last; 0 before the first")]
    progress: Progress | None
    mlflow_url: Annotated[str | None, Field(description="The page of its MLflow run, once there is one")]
    conditions: tuple[Condition, ...]
    allowed: Annotated[tuple[str, ...], Field(description="The verbs that are possible in this state")]
    links: dict[str, str]


class JobPage(PageOf[Job]):
    """Jobs, newest first."""


class Change(View):
    """One field of a document that a fork has otherwise than the job it comes from."""

    pointer: str
    before: Any
    after: Any


class Fork(View):
    """A new job, and in what it differs from the one it comes from."""

    job: Job
    changes: tuple[Change, ...]
