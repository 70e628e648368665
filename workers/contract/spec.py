"""The document of a training: everything that decides what it computes, complete and immutable."""

import json
from typing import Annotated, Any, Literal, Self

from pydantic import Field, ValidationError, ValidatorFunctionWrapHandler, WrapValidator, model_validator
from pydantic_core import PydanticCustomError

from workers.contract.compute import Compute
from workers.contract.consistency import consistency_problems
from workers.contract.data import Augmentation, Dataset
from workers.contract.document import Document, Problem, refuse
from workers.contract.locations import NamedFile
from workers.contract.model import (
    EDM,
    VE,
    Average,
    ExponentialMovingAverage,
    Images,
    Objective,
    Optimizer,
    PowerFunctionAverage,
    Preconditioning,
    Sampler,
    sampler_problems,
    untrained_problems,
)
from workers.contract.networks import Network


def _in_one_sentence(value: Any, validate: ValidatorFunctionWrapHandler) -> Any:
    """Instead of one refusal for each thing that it could have been."""
    try:
        return validate(value)
    except ValidationError:
        raise PydanticCustomError("images_or_auto", "must be a positive number of images, or auto") from None


class Cadence(Document):
    """How often things happen, in images seen."""

    log_images: Annotated[Images, Field(description="From one row of metrics to the next")]
    checkpoint_images: Annotated[
        Images | Literal["auto"],
        WrapValidator(_in_one_sentence),
        Field(
            description="A checkpoint and a sample grid; auto: at those multiples of log_images where they cost the "
            "least time, by what they take and how often the job was interrupted (Young/Daly), 30 s to 1 h apart"
        ),
    ]
    keep_last: Annotated[
        int | None,
        Field(ge=1, description="Newest checkpoints that stay, beside those that forks start from; null: all"),
    ] = None
    keep_every_images: Annotated[
        Images | None,
        Field(description="Checkpoints at multiples of it stay, too; auto takes them there; with keep_last"),
    ] = None


class TrainSpec(Document):
    """A training job. Progress is counted in images, so it means the same on any number of workers."""

    kind: Literal["train"]
    dataset: Dataset
    augmentation: Augmentation | None = None
    network: Network
    initial_weights: Annotated[
        NamedFile | None,
        Field(
            description="What `cdm convert` or `cdm average` wrote: a path of the workers; or https://, s3://, "
            "upload://ID; null: random"
        ),
    ] = None
    preconditioning: Preconditioning = EDM(kind="edm")
    objective: Objective = Objective()
    optimizer: Optimizer = Optimizer()
    ema: Average = ExponentialMovingAverage(kind="exponential")
    sampler: Sampler = Sampler()
    compute: Compute = Compute()
    batch_images: Annotated[Images, Field(description="Images of one optimizer step, over all workers")]
    duration_images: Annotated[Images, Field(description="Of the whole run, each as often as it is seen")]
    cadence: Cadence
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0

    @property
    def total_images(self) -> int:
        """When it is done."""
        return self.duration_images

    @property
    def consistency_images(self) -> int:
        """Images of each batch that carry the consistency term."""
        term = self.objective.consistency
        return round(term.batch_fraction * self.batch_images) if term else 0

    def consistency_images_at(self, images_seen: int) -> int:
        """Those of the batch that follows so many images: none before the term is on."""
        term = self.objective.consistency
        return self.consistency_images if term and images_seen >= term.start * self.duration_images else 0

    @property
    def pass_images(self) -> int:
        """The most images that a worker holds at once."""
        return self.compute.microbatch_images or self.batch_images // self.compute.workers

    def shares(self, workers: int) -> int:
        """Equal parts of a batch, each of one forward and backward pass; `workers` take turns at them.

        There are no fewer of them than `compute` says where workers are missing: those that are left make more passes,
        and none needs more memory.
        """
        return max(self.batch_images // self.pass_images, workers)

    @model_validator(mode="after")
    def _fields_agree(self) -> Self:
        refuse(*_disagreements(self))
        return self


def sharing_problems(spec: TrainSpec, workers: int) -> list[Problem]:
    """Why a batch, and its part with the consistency term, cannot be cut into equal shares for `workers`."""
    microbatch = spec.compute.microbatch_images
    share, rest = divmod(spec.batch_images, spec.compute.workers)
    if not rest and microbatch and (microbatch > share or share % microbatch):
        reason = f"must divide the {share} images of each of {spec.compute.workers} workers"
        return [Problem("/compute/microbatch_images", "not_divisible", reason)]
    if rest or spec.batch_images % (shares := spec.shares(workers)):
        return [Problem("/batch_images", "not_divisible", f"must be a multiple of compute.workers ({workers})")]
    term, images = spec.objective.consistency, spec.consistency_images
    if term and (images == 0 or images % shares):
        reason = (
            f"{term.batch_fraction:g} of {spec.batch_images} images is {images}, "
            f"which {shares} {'passes' if microbatch else 'workers'} cannot share; "
            f"choose a positive multiple of {shares}"
        )
        return [Problem("/objective/consistency/batch_fraction", "not_divisible", reason)]
    return []


def _disagreements(spec: TrainSpec) -> list[Problem]:
    """Fields that are right one by one and wrong together."""
    problems = [Problem(f"/sampler{each.pointer}", each.code, each.message) for each in sampler_problems(spec.sampler)]
    if term := spec.objective.consistency:
        problems += [
            Problem(f"/objective/consistency{each.pointer}", each.code, each.message)
            for each in consistency_problems(term)
        ]
    problems += _worker_problems(spec)
    problems += [
        Problem(f"/cadence/{name}", "out_of_range", f"must be at least one batch ({spec.batch_images} images)")
        for name in ("log_images", "checkpoint_images")
        if (images := getattr(spec.cadence, name)) != "auto" and images < spec.batch_images
    ]
    problems += _retention_problems(spec.cadence)
    if spec.objective.label_dropout and not spec.network.class_conditional:
        problems.append(Problem("/objective/label_dropout", "no_effect", "set network.class_conditional, or this to 0"))
    if spec.sampler.guidance != 1 and not spec.objective.label_dropout:
        classes = "" if spec.network.class_conditional else "network.class_conditional and "
        reason = (
            f"needs a network that trained with and without classes: set {classes}objective.label_dropout, or this to 1"
        )
        problems.append(Problem("/sampler/guidance", "no_effect", reason))
    if spec.augmentation and not spec.network.takes_augmentation:
        reason = f"the network {spec.network.kind} takes no augmentation labels; set it to null"
        problems.append(Problem("/augmentation", "not_supported", reason))
    match spec.ema:
        case PowerFunctionAverage(relative_widths=widths) if len({round(width, 3) for width in widths}) < len(widths):
            problems.append(Problem("/ema/relative_widths", "repeated", "must differ by more than 0.001"))
    for name in ("warmup_images", "decay_after_images"):
        if (getattr(spec.optimizer, name) or 0) > spec.duration_images:
            reason = f"must be at most duration_images ({spec.duration_images}), or it is never reached"
            problems.append(Problem(f"/optimizer/{name}", "out_of_range", reason))
    match spec.preconditioning:
        case VE(sigma_min=low, sigma_max=high) if low >= high:
            problems.append(Problem("/preconditioning/sigma_min", "range", "must be below sigma_max"))
        case preconditioning:
            problems += [
                Problem(f"/sampler{each.pointer}", each.code, each.message)
                for each in untrained_problems(spec.sampler, preconditioning)
            ]
    return problems


def _worker_problems(spec: TrainSpec) -> list[Problem]:
    problems, compute = sharing_problems(spec, spec.compute.workers), spec.compute
    if compute.min_workers and compute.min_workers > compute.workers:
        reason = f"must be at most compute.workers ({compute.workers})"
        problems.append(Problem("/compute/min_workers", "out_of_range", reason))
    return problems


def _retention_problems(cadence: Cadence) -> list[Problem]:
    pointer, every = "/cadence/keep_every_images", cadence.keep_every_images
    if every is None:
        return []
    if cadence.keep_last is None:
        return [Problem(pointer, "no_effect", "all checkpoints stay: set cadence.keep_last, or this to null")]
    name = "log_images" if cadence.checkpoint_images == "auto" else "checkpoint_images"
    if every % (images := getattr(cadence, name)):
        return [Problem(pointer, "not_divisible", f"must be a multiple of cadence.{name} ({images})")]
    return []


def parse_spec(document: Any) -> TrainSpec:
    """Read a training's document as it comes out of JSON or YAML.

    Raises:
        pydantic.ValidationError: naming every wrong field; see `problems_of`.
    """
    return TrainSpec.model_validate_json(json.dumps(document, default=str))
