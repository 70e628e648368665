"""What is trained and how: network, noise, objective, optimizer, EMA, sampler."""

from typing import Annotated, Literal

from pydantic import Field

from workers.contract.document import Document, PositiveInts, Problem

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Images = Annotated[int, Field(gt=0, description="A number of training images")]


class UNet(Document):
    """A small residual U-Net after DDPM++; its input shape and number of classes come from the image set."""

    kind: Literal["unet"]
    channels: Annotated[int, Field(gt=0, le=1024, multiple_of=8, description="Width of the first level")] = 32
    channel_multipliers: Annotated[PositiveInts, Field(min_length=1, max_length=8)] = (1, 2, 2)
    blocks_per_level: Annotated[int, Field(gt=0, le=8)] = 2
    attention_resolutions: Annotated[
        PositiveInts, Field(description="Levels with self-attention, by their resolution")
    ] = (8,)
    class_conditional: Annotated[bool, Field(description="Needs an image set with classes")] = False


class Noise(Document):
    """Training noise, ln sigma ~ N(p_mean, p_std^2) (EDM, section 5)."""

    p_mean: Annotated[float, Field(allow_inf_nan=False)] = -1.2
    p_std: Positive = 1.2
    sigma_data: Annotated[Positive | None, Field(description="null: measured on the image set")] = None


class RelativeInterval(Document):
    """From sigma to sigma' = sigma (1 - r), r ~ U[r_min, r_max]. One ancestral step stays accurate up to r = 0.3."""

    r_min: Annotated[float, Field(ge=0, lt=1)] = 0.0
    r_max: Annotated[float, Field(gt=0, le=0.5)] = 0.3


class Consistency(Document):
    """The martingale regulariser: the denoiser should agree with its own expectation along its reverse process.

    `symmetric` is unbiased, with gradients through all three predictions (6 F per image of the sub-batch, where a
    plain EDM step costs 3 F). `target` regresses on the frozen EMA network (1 F): cheaper, a semi-gradient.
    """

    estimator: Literal["symmetric", "target"] = "symmetric"
    weight: Annotated[
        Positive, Field(le=100, description="lambda, beside the EDM weight; 10 or more over-regularises")
    ] = 1.0
    interval: RelativeInterval = RelativeInterval()
    batch_fraction: Annotated[float, Field(gt=0, le=1, description="Share of the batch that carries the term")] = 0.25


class Objective(Document):
    """Denoising score matching, always; the consistency term beside it unless null (= plain EDM)."""

    consistency: Consistency | None = Consistency()


class Optimizer(Document):
    """Adam with a linear warm-up."""

    learning_rate: Positive = 1e-3
    beta1: Annotated[float, Field(ge=0, lt=1)] = 0.9
    beta2: Annotated[float, Field(ge=0, lt=1)] = 0.999
    epsilon: Positive = 1e-8
    warmup_images: Annotated[int, Field(ge=0)] = 0


class ExponentialMovingAverage(Document):
    """Half-life in images, shortened at the start to `rampup_ratio` of the images seen so far."""

    halflife_images: Images = 500_000
    rampup_ratio: Annotated[float, Field(gt=0, le=1)] = 0.05


class Sampler(Document):
    """Deterministic Heun sampler on the noise levels of EDM, equation 5."""

    steps: Annotated[int, Field(ge=2, le=1000)] = 18
    sigma_min: Positive = 0.002
    sigma_max: Positive = 80.0
    rho: Positive = 7.0


def model_problems(interval: RelativeInterval | None, sampler: Sampler) -> list[Problem]:
    """Ranges that are upside down."""
    problems = []
    if interval and interval.r_min >= interval.r_max:
        problems.append(Problem("/objective/consistency/interval/r_min", "range", "must be below r_max"))
    if sampler.sigma_min >= sampler.sigma_max:
        problems.append(Problem("/sampler/sigma_min", "range", "must be below sigma_max"))
    return problems
