"""The document of a sample job: images out of a trained network, each a function of its own seed."""

from dataclasses import dataclass
from typing import Annotated, Literal, Self

from pydantic import Field, Strict, model_validator

from workers.contract.compute import Workers
from workers.contract.data import DatasetManifest, Digest
from workers.contract.document import Document, Problem, refuse
from workers.contract.keys import JOB_ID_PATTERN
from workers.contract.locations import NamedFile
from workers.contract.model import (
    Images,
    Preconditioning,
    Sampler,
    SamplerChanges,
    average_names,
    sampler_problems,
    untrained_problems,
)
from workers.contract.records import CheckpointRef, Timestamp
from workers.contract.spec import TrainSpec

MAX_SEED = 2**53  # above, JSON's numbers are no longer all different
Seed = Annotated[int, Field(ge=0, lt=MAX_SEED)]
Classes = Annotated[
    tuple[Annotated[int, Field(ge=0)], ...],
    Strict(False),
    Field(fail_fast=True, min_length=1, max_length=100_000),
]
MOST_PASS_IMAGES = 65_536
PassImages = Annotated[int, Field(gt=0, le=MOST_PASS_IMAGES, description="Images that a worker holds at once")]


JobId = Annotated[str, Field(pattern=rf"^{JOB_ID_PATTERN}$", max_length=200)]


class CheckpointSource(Document):
    """A committed checkpoint of a training job in the same store, and one of its moving averages."""

    job_id: JobId
    images_seen: Annotated[
        int | None, Field(ge=1, lt=2**63, description="null: the newest when the job is submitted")
    ] = None
    attempt: Annotated[int | None, Field(ge=1, lt=2**31, description="That wrote it; null: of several the last")] = None
    average: Annotated[
        str | None,
        Field(
            pattern=r"^(ema|ema-0\.\d+|network)$",
            description="ema, ema-0.050 by its width, or network (the raw weights); null: what sample grids are of",
        ),
    ] = None


class ResolvedCheckpoint(CheckpointRef):
    """A checkpoint and one of its averages, with nothing left open."""

    job_id: JobId
    attempt: Annotated[int, Field(description="That wrote it; 1 in what was recorded before this was")] = 1
    average: str


class WeightsFile(Document):
    """A file of weights, and what it was when the job began."""

    location: str
    sha256: Digest


ResolvedSource = ResolvedCheckpoint | WeightsFile


@dataclass(frozen=True, slots=True)
class Subject:
    """A network to draw with, as far as a document has to fit it. None: not known."""

    name: str  # of its job, or of its file
    sampler: Sampler  # its own
    preconditioning: Preconditioning
    num_classes: int | None  # that it is told; 0: none
    label_dropout: float | None
    averages: tuple[str, ...] = ()  # of a checkpoint, the one of sample grids first

    @classmethod
    def of(cls, job_id: str, training: TrainSpec, images: DatasetManifest | None) -> Self:
        """That of a training, of these images."""
        known = images.num_classes if images else None
        num_classes = known if training.network.class_conditional else 0
        dropout = training.objective.label_dropout
        averages = (*average_names(training.ema), "network")
        return cls(job_id, training.sampler, training.preconditioning, num_classes, dropout, averages)

    def average_problem(self, wanted: str | None) -> str | None:
        """Why there is no such average; None: there is."""
        if wanted is None or wanted in self.averages:
            return None
        return f"{self.name} keeps no {wanted}; choose {' or '.join(self.averages)}"


class Drawing(Document):
    """How images are drawn, and from what: a checkpoint, or a file of weights."""

    checkpoint: Annotated[CheckpointSource | None, Field(description="null: weights are given")] = None
    weights: Annotated[
        NamedFile | None,
        Field(
            description="What `cdm convert`, `cdm average` or `cdm export` wrote: a path of the workers; or https://, "
            "s3://, upload://ID; null: a checkpoint is given"
        ),
    ] = None
    sampler: Annotated[
        SamplerChanges | None, Field(description="null: the training's; of weights that do not say it, Heun's of EDM")
    ] = None
    classes: Annotated[
        Classes | None, Field(description="The image of a seed has the class at `seed modulo their number`; null: all")
    ] = None
    first_seed: Annotated[Seed, Field(description="Images have this seed and those that follow")] = 0
    pass_images: PassImages = 64
    compute: Workers = Workers()

    def sampler_for(self, own: Sampler) -> Sampler:
        """What it draws with from a network that has this sampler."""
        return self.sampler.applied_to(own) if self.sampler else own

    def problems_with(self, subject: Subject) -> list[Problem]:
        """What of it this network does not have: averages, classes, noise levels that it was trained at."""
        reason = subject.average_problem(self.checkpoint.average) if self.checkpoint else None
        return [
            *([Problem("/checkpoint/average", "not_found", reason)] if reason else []),
            *(Problem(f"/sampler{each.pointer}", each.code, each.message) for each in self._sampler_problems(subject)),
            *self._class_problems(subject),
        ]

    def _sampler_problems(self, subject: Subject) -> list[Problem]:
        sampler = self.sampler_for(subject.sampler)
        found = sampler_problems(sampler) + untrained_problems(sampler, subject.preconditioning)
        if sampler.guidance != 1 and (subject.label_dropout == 0 or subject.num_classes == 0):
            reason = f"{subject.name} never trains without classes (objective.label_dropout); set it to 1"
            found.append(Problem("/guidance", "not_supported", reason))
        return found

    def _class_problems(self, subject: Subject) -> list[Problem]:
        if not self.classes or subject.num_classes is None:
            return []
        if not subject.num_classes:
            return [Problem("/classes", "no_effect", f"{subject.name} trains without classes; leave it out")]
        if (highest := max(self.classes)) >= subject.num_classes:
            reason = f"there is no class {highest}; the last is {subject.num_classes - 1}"
            return [Problem("/classes", "out_of_range", reason)]
        return []

    def drawing_problems(self, num_images: int) -> list[Problem]:
        """Fields that are right one by one and wrong together, where so many images are drawn."""
        problems = []
        if self.checkpoint is None and self.weights is None:
            problems.append(Problem("/checkpoint", "missing", "say what to draw from: this, or a file of `weights`"))
        if self.checkpoint and self.weights:
            problems.append(Problem("/weights", "no_effect", "images are drawn from the checkpoint; leave one out"))
        if self.first_seed + num_images > MAX_SEED:
            reason = f"with {num_images} images the last seed would be above {MAX_SEED - 1}; choose a lower one"
            problems.append(Problem("/first_seed", "out_of_range", reason))
        return problems


class Inpainting(Document):
    """Pixels that are known; the others are drawn to go with them. Paths of the workers, or URLs, or uploads."""

    image: Annotated[NamedFile, Field(description="As large as the images of the training")]
    mask: Annotated[NamedFile, Field(description="An image of that size, white where the pixels are known")]


class SampleSpec(Drawing):
    """A sample job."""

    kind: Literal["sample"]
    num_images: Annotated[Images, Field(le=1_000_000)] = 64
    inpainting: Annotated[
        Inpainting | None,
        Field(description="With the sampler `ancestral` the rest fits best; null: none is known"),
    ] = None
    archive: Annotated[
        Literal["zip", "npz"] | None,
        Field(description="All images as PNG files in a ZIP, or as one array in a NumPy archive; null: the grid only"),
    ] = "zip"

    @property
    def total_images(self) -> int:
        return self.num_images

    @model_validator(mode="after")
    def _fields_agree(self) -> Self:
        refuse(*self.drawing_problems(self.num_images))
        return self


class Sampled(Document):
    """What a sample job has drawn, and from what."""

    checkpoint: ResolvedCheckpoint | None
    checkpoint_seal: Annotated[Digest | None, Field(description="Of its manifest")]
    weights: WeightsFile | None = None
    sampler: Sampler
    first_seed: int
    num_images: int
    classes: Annotated[tuple[int, ...] | None, Strict(False)]
    files: Annotated[tuple[str, ...], Strict(False)]
    ended_at: Timestamp
