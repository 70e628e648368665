"""The document of an evaluation job, and what it finds."""

from typing import Annotated, Literal, Self

from pydantic import Field, Strict, model_validator

from workers.contract.data import DatasetManifest, Digest, ImportedDataset
from workers.contract.document import Document, Problem, refuse
from workers.contract.features import Features, Lite0
from workers.contract.locations import NamedFile
from workers.contract.model import Images, PreconditioningKind, Sampler
from workers.contract.records import Timestamp
from workers.contract.sampling import Drawing, ResolvedCheckpoint, WeightsFile

FEWEST_IMAGES = 6  # that have five neighbours each, and a distance beside chance
TIMELINE_IMAGES = 8  # with each number of steps
Labels = Literal["as_images", "evenly"]
TimelineSteps = Annotated[
    tuple[Annotated[int, Field(ge=2, le=1000)], ...],
    Strict(False),
    Field(
        fail_fast=True,
        max_length=8,
        description="Draw the same eight images with so few steps each, for a picture of them",
    ),
]


class EvaluateSpec(Drawing):
    """An evaluation job: how good a network's images are, and how consistent it is.

    Beside the training images it draws classes as often as these have them. Those of `classes` it draws evenly, beside
    the training images of these classes alone; losses and gaps are of all.
    EDM's protocol is 50,000 images, three times, beside all training images, with classes drawn evenly, as beside a
    `reference`.
    """

    kind: Literal["evaluate"]
    dataset: Annotated[
        ImportedDataset | None,
        Field(description="Of weights: the images they are measured by; a checkpoint has those of its training"),
    ] = None
    num_images: Annotated[Images, Field(ge=2, le=1_000_000, description="Drawn for each distance")] = 5000
    repeats: Annotated[int, Field(ge=1, le=100, description="Distances of so many blocks, each of new seeds")] = 1
    features: Features = Lite0(kind="lite0")
    reference: Annotated[
        NamedFile | None,
        Field(
            description="NumPy archive with `mu` and `sigma` in these features, as EDM publishes them: a path of the "
            "workers; or https://, s3://, upload://ID; null: all images that the job learned from, or of `dataset`. "
            "With `classes` it is to be of these, too"
        ),
    ] = None
    timeline_steps: TimelineSteps = (4, 8, 18)
    drift_images: Annotated[
        int, Field(ge=0, le=100_000, description="Images that consistency is measured on, by noise level; 0: none")
    ] = 256
    held_out: Annotated[
        Digest | None,
        Field(
            description="An imported image set that the job did not learn from: loss and gap are measured there, too"
        ),
    ] = None

    @property
    def drawn_images(self) -> int:
        return self.num_images * self.repeats

    @property
    def total_images(self) -> int:
        drift_images = self.drift_images * (2 if self.held_out else 1)
        return self.drawn_images + drift_images + TIMELINE_IMAGES * len(self.timeline_steps)

    @model_validator(mode="after")
    def _fields_agree(self) -> Self:
        problems = self._weights_problems() if self.weights else []
        if self.dataset and self.checkpoint:
            reason = "a checkpoint is measured by the images that it learned from; leave it out"
            problems.append(Problem("/dataset", "no_effect", reason))
        if self.drift_images == 1:
            problems.append(Problem("/drift_images", "out_of_range", "a spread takes two images or more; 0: none"))
        if self.held_out and not self.drift_images:
            problems.append(Problem("/held_out", "unused", "nothing is measured of them with drift_images: 0"))
        if self.num_images < FEWEST_IMAGES and not self.reference:
            problems.append(Problem("/num_images", "out_of_range", f"must be at least {FEWEST_IMAGES}"))
        if self.reference and self.features.kind == "lite0":
            reason = "published statistics are of other features: choose those they were made with, or set it to null"
            problems.append(Problem("/reference", "not_comparable", reason))
        refuse(*problems, *self.drawing_problems(self.drawn_images))
        return self

    def _weights_problems(self) -> list[Problem]:
        problems = []
        if not self.dataset and not self.reference:
            reason = "a file of weights does not say what it learned from: name an imported image set, or a `reference`"
            problems.append(Problem("/dataset", "required", reason))
        elif not self.dataset and self.drift_images:
            reason = "losses and gaps are measured at images: name a `dataset`, or set it to 0"
            problems.append(Problem("/drift_images", "no_effect", reason))
        if self.held_out:
            reason = "what weights have not seen they do not say: leave it out, or evaluate them with it as `dataset`"
            problems.append(Problem("/held_out", "not_supported", reason))
        return problems


def held_out_problem(images: DatasetManifest, seen: DatasetManifest, *, by_classes: bool) -> str | None:
    """Why these are no held-out images of a network that has `seen` others; `by_classes`: and goes by these."""
    if images.digest == seen.digest:
        return "these are the images that the job learned from; name others"
    if images.num_images < 2:
        return "a spread takes two images or more"
    if reason := images.misfit(channels=seen.channels, resolution=seen.resolution):
        return reason
    if by_classes and images.classes != seen.classes:
        return "the network goes by classes, and these images have others, or none"
    return None


class Measure(Document):
    """A number and how sure it is."""

    value: float
    blocks: Annotated[tuple[float, ...], Strict(False), Field(description="One for each block of images")] = ()
    shares: Annotated[
        tuple[float, ...],
        Strict(False),
        Field(
            description="Of one block: a value for each share of its images; their spread, over the root of their "
            "number, is the error. Of evaluations made alike, each is of the same images, seeds and noise"
        ),
    ] = ()
    standard_error: Annotated[float | None, Field(description="Of the value; null: not known from one block")] = None
    floor: Annotated[
        float | None,
        Field(
            description="What chance alone makes: as many training images, half of them at most, beside the others; a "
            "Fréchet distance, whose bias goes by the numbers of images, as of the numbers that were compared"
        ),
    ] = None

    @property
    def text(self) -> str:
        """The value with its standard error, if that is known."""
        error = "" if self.standard_error is None else f" +- {self.standard_error:.2g}"
        return f"{self.value:.4g}{error}"

    @property
    def lowest(self) -> float | None:
        """The smallest of several blocks, as EDM publishes it."""
        return min(self.blocks) if len(self.blocks) > 1 else None


class Level(Document):
    """A measure at one noise level: mean over images, and the standard error of that mean."""

    sigma: float
    mean: float
    standard_error: float
    count: int


Curve = Annotated[tuple[Level, ...], Strict(False)]


class Weighting(Document):
    """What losses and gaps are weighted by at each noise level: 1 / c_out^2 of this preconditioning."""

    kind: PreconditioningKind
    sigma_data: Annotated[float | None, Field(description="null: these weights have none")] = None


class Findings(Document):
    """What an evaluation job has found of a network, and how.

    Numbers compare where the average, `features_fingerprint`, `reference`, `sampler`, `labels`, `classes`, `first_seed`
    and counts are the same; losses and gaps where `drift_images`, `weighting` and noise levels are, and those at
    held-out images where `held_out` is, too.
    """

    job_id: Annotated[str, Field(description="Of the evaluation")]
    features: str
    features_fingerprint: Digest
    reference: Annotated[str, Field(description="Digest of the image set, or of the archive of statistics")]
    num_reference: Annotated[
        int | None, Field(description="Images of it that were measured beside; null: it does not say")
    ]
    num_images: int
    repeats: int
    first_seed: int
    sampler: Sampler
    labels: Annotated[
        Labels | None,
        Field(
            description="as_images: classes were drawn as often as the training images, the reference, have them; "
            "evenly: each as often as any other; null: no classes, or recorded before this was"
        ),
    ] = None
    classes: Annotated[
        tuple[int, ...] | None,
        Strict(False),
        Field(
            description="Drawn, beside the training images of these classes unless the reference is an archive; null: "
            "all, or recorded before this was"
        ),
    ] = None
    drift_images: Annotated[
        int | None, Field(description="Images that losses and gaps were asked for at; null: recorded before this was")
    ] = None
    held_out: Annotated[
        Digest | None,
        Field(description="The image set of measures `..._at_held_out`; null: none, or recorded before this was"),
    ] = None
    weighting: Annotated[Weighting | None, Field(description="Of losses and gaps; null: recorded before this was")] = (
        None
    )
    measures: dict[str, Measure]
    curves: Annotated[
        dict[str, Curve], Field(description="By noise level, at training images, at held-out ones, on its own paths")
    ]
    versions: Annotated[dict[str, str], Field(description="Of the libraries that computed it, and the device")]
    files: Annotated[tuple[str, ...], Strict(False)]
    ended_at: Timestamp


class Evaluation(Findings):
    """Of a checkpoint."""

    checkpoint: ResolvedCheckpoint
    checkpoint_seal: Annotated[Digest | None, Field(description="Of its manifest")]


class WeightsEvaluation(Findings):
    """Of a file of weights, which is no job's, so its numbers join no curves and no comparison."""

    weights: WeightsFile
