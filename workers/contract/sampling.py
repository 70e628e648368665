"""The document of a sample job: images out of a checkpoint, each a function of its own seed."""

from typing import Annotated, Literal, Self

from pydantic import Field, Strict, model_validator

from workers.contract.compute import Workers
from workers.contract.data import Digest
from workers.contract.document import Document, Problem, refuse
from workers.contract.keys import JOB_ID_PATTERN, JobKeys
from workers.contract.locations import NamedFile
from workers.contract.model import Images, Sampler, SamplerChanges, sampler_problems, untrained_problems
from workers.contract.records import Timestamp
from workers.contract.spec import TrainSpec

MAX_SEED = 2**53  # above, JSON's numbers are no longer all different
Seed = Annotated[int, Field(ge=0, lt=MAX_SEED)]
Classes = Annotated[
    tuple[Annotated[int, Field(ge=0)], ...],
    Strict(False),
    Field(min_length=1, max_length=100_000),
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


class SettledSource(Document):
    """A checkpoint and one of its averages, with nothing left open."""

    job_id: JobId
    images_seen: int
    attempt: Annotated[int, Field(description="That wrote it; 1 in what was recorded before this was")] = 1
    average: str

    @property
    def folder(self) -> str:
        """Where its files lie."""
        return JobKeys(self.job_id).checkpoint(self.images_seen, self.attempt)


class Drawing(Document):
    """How images are drawn from a checkpoint."""

    checkpoint: CheckpointSource
    sampler: Annotated[SamplerChanges | None, Field(description="null: the training's")] = None
    classes: Annotated[
        Classes | None, Field(description="The image of a seed has the class at `seed modulo their number`; null: all")
    ] = None
    first_seed: Annotated[Seed, Field(description="Images have this seed and those that follow")] = 0
    pass_images: PassImages = 64
    compute: Workers = Workers()

    def sampler_for(self, training: Sampler) -> Sampler:
        """What it draws with from a training that has this sampler."""
        return self.sampler.applied_to(training) if self.sampler else training

    def sampler_problems_for(self, training: TrainSpec) -> list[Problem]:
        """Changes of its sampler that are wrong together, or that its network was not trained for."""
        if self.sampler is None:
            return []
        sampler = self.sampler_for(training.sampler)
        found = sampler_problems(sampler) + untrained_problems(sampler, training.preconditioning)
        if sampler.guidance != 1 and not training.objective.label_dropout:
            reason = f"{self.checkpoint.job_id} never trains without classes (objective.label_dropout); set it to 1"
            found.append(Problem("/guidance", "not_supported", reason))
        return [Problem(f"/sampler{each.pointer}", each.code, each.message) for each in found]

    def drawing_problems(self, num_images: int) -> list[Problem]:
        """Fields that are right one by one and wrong together, where so many images are drawn."""
        problems = []
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

    checkpoint: SettledSource
    checkpoint_seal: Annotated[Digest | None, Field(description="Of its manifest")]
    sampler: Sampler
    first_seed: int
    num_images: int
    classes: Annotated[tuple[int, ...] | None, Strict(False)]
    files: Annotated[tuple[str, ...], Strict(False)]
    ended_at: Timestamp
