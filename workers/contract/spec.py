"""The job document: everything that decides what a run computes, complete and immutable."""

import json
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from workers.contract.data import Dataset
from workers.contract.document import Document, Problem, crossed
from workers.contract.model import (
    ExponentialMovingAverage,
    Images,
    Noise,
    Objective,
    Optimizer,
    Sampler,
    UNet,
    model_problems,
)


class Compute(Document):
    """Where it runs: DDP workers of one kind, gloo between CPUs and NCCL between GPUs."""

    workers: Annotated[int, Field(gt=0, le=1024)] = 1
    accelerator: Literal["cpu", "gpu"] = "gpu"
    precision: Annotated[Literal["float32", "bfloat16"], Field(description="bfloat16: autocast inside the network")] = (
        "float32"
    )
    max_worker_failures: Annotated[
        int, Field(ge=0, le=1000, description="Restarts from the last checkpoint within one attempt")
    ] = 3


class Cadence(Document):
    """How often things happen, in images seen."""

    log_images: Images
    checkpoint_images: Annotated[Images, Field(description="A checkpoint and a sample grid")]


class TrainSpec(Document):
    """A training job. Progress is counted in images, so it means the same on any number of workers."""

    kind: Literal["train"]
    dataset: Dataset
    network: UNet
    noise: Noise = Noise()
    objective: Objective = Objective()
    optimizer: Optimizer = Optimizer()
    ema: ExponentialMovingAverage = ExponentialMovingAverage()
    sampler: Sampler = Sampler()
    compute: Compute = Compute()
    batch_images: Annotated[Images, Field(description="Images of one optimizer step, over all workers")]
    duration_images: Images
    cadence: Cadence
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0

    @property
    def consistency_images(self) -> int:
        """Images of each batch that carry the consistency term."""
        term = self.objective.consistency
        return round(term.batch_fraction * self.batch_images) if term else 0

    @model_validator(mode="after")
    def _fields_agree(self) -> Self:
        term = self.objective.consistency
        problems = model_problems(term.interval if term else None, self.sampler)
        workers = self.compute.workers
        if self.batch_images % workers:
            problems.append(
                Problem("/batch_images", "not_divisible", f"must be a multiple of compute.workers ({workers})")
            )
        elif term and (self.consistency_images == 0 or self.consistency_images % workers):
            problems.append(
                Problem(
                    "/objective/consistency/batch_fraction",
                    "not_divisible",
                    f"{term.batch_fraction:g} of {self.batch_images} images is {self.consistency_images}, "
                    f"which {workers} workers cannot share; choose a positive multiple of {workers}",
                )
            )
        problems += [
            Problem(f"/cadence/{name}", "out_of_range", f"must be at least one batch ({self.batch_images} images)")
            for name in ("log_images", "checkpoint_images")
            if getattr(self.cadence, name) < self.batch_images
        ]
        crossed(*problems)
        return self


def parse_spec(document: Any) -> TrainSpec:
    """Read a job document as it comes out of JSON or YAML.

    Raises:
        pydantic.ValidationError: naming every wrong field; see `problems_of`.
    """
    return TrainSpec.model_validate_json(json.dumps(document, default=str))
