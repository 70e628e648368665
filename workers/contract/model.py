"""How a network becomes a denoiser and is trained: preconditioning, objective, optimizer, moving average, sampler."""

import math
from typing import Annotated, Literal, assert_never

from pydantic import Field, Strict

from workers.contract.consistency import Consistency, Symmetric
from workers.contract.document import Document, NotNegative, Positive, Problem
from workers.contract.networks import Probability

_LARGEST_EXPONENT = 700.0  # of e in float64
Images = Annotated[int, Field(gt=0, description="A number of training images")]


class EDM(Document):
    """The preconditioning and noise of EDM (Karras et al. 2022, table 1): ln sigma ~ N(p_mean, p_std^2)."""

    kind: Literal["edm"]
    p_mean: Annotated[float, Field(ge=-10, le=10, description="Of ln sigma in training")] = -1.2
    p_std: Annotated[float, Field(gt=0, le=5, description="Of ln sigma in training")] = 1.2
    sigma_data: Annotated[Positive | None, Field(description="null: measured on the image set")] = None


class VP(Document):
    """Those of the variance-preserving SDE (Song et al. 2021): t ~ U[epsilon_t, 1], sigma(t) by beta_d and beta_min."""

    kind: Literal["vp"]
    beta_d: Positive = 19.9
    beta_min: Positive = 0.1
    epsilon_t: Annotated[float, Field(gt=0, le=0.01)] = 1e-5


class VE(Document):
    """Those of the variance-exploding SDE (same paper): ln sigma ~ U[ln sigma_min, ln sigma_max]."""

    kind: Literal["ve"]
    sigma_min: Positive = 0.02
    sigma_max: Positive = 100.0


Preconditioning = Annotated[EDM | VP | VE, Field(discriminator="kind")]
PreconditioningKind = Literal["edm", "vp", "ve"]  # of those


def preconditioning_difference(made: Preconditioning, has: Preconditioning) -> tuple[str, object, object] | None:
    """The first field that gives the same weights another meaning, as they were made and as it is; None: there is none.

    The noise levels of the training may differ. A sigma_data that is still to be measured differs from no other.
    """
    if made.kind != has.kind:
        return "kind", made.kind, has.kind
    match made:
        case EDM():
            names: tuple[str, ...] = ("sigma_data",)
        case VP():  # the network is told the time, which follows from these
            names = ("beta_d", "beta_min")
        case VE():
            names = ()
        case _:
            assert_never(made)
    for name in names:
        ours, theirs = getattr(has, name), getattr(made, name)
        if ours != theirs and None not in (ours, theirs):
            return name, theirs, ours
    return None


def trained_range(preconditioning: Preconditioning) -> tuple[float, float]:
    """The lowest and the highest sigma that is trained; EDM's normal distribution has neither."""
    match preconditioning:
        case EDM():
            return 0.0, math.inf
        case VP(epsilon_t=epsilon):
            return _vp_sigma(preconditioning, epsilon), _vp_sigma(preconditioning, 1.0)
        case VE(sigma_min=low, sigma_max=high):
            return low, high
        case _:
            assert_never(preconditioning)


def _vp_sigma(vp: VP, time: float) -> float:
    exponent = vp.beta_d * time**2 / 2 + vp.beta_min * time
    return math.sqrt(math.expm1(exponent)) if exponent < _LARGEST_EXPONENT else math.inf


def with_sigma_data(preconditioning: Preconditioning, sigma_data: float) -> Preconditioning:
    """The same with what is, or was, measured on the images. VP and VE make no use of it."""
    match preconditioning:
        case EDM():
            return preconditioning.model_copy(update={"sigma_data": sigma_data})
        case VP() | VE():
            return preconditioning
        case _:
            assert_never(preconditioning)


def effective_sigma_data(preconditioning: Preconditioning, measured: float) -> float:
    """What a denoiser takes the spread of its images for: the value of its document, else what was measured on them."""
    match preconditioning:
        case EDM(sigma_data=given):
            return measured if given is None else given
        case VP() | VE():
            return measured
        case _:
            assert_never(preconditioning)


class Objective(Document):
    """Denoising score matching, always; the consistency term beside it unless null (= plain diffusion training)."""

    consistency: Consistency | None = Symmetric(estimator="symmetric")
    label_dropout: Annotated[
        Probability, Field(description="Share of images that train without their class, for classifier-free guidance")
    ] = 0.0


class Optimizer(Document):
    """Adam with a linear warm-up, then a constant rate, or one that falls with the square root of the images seen."""

    learning_rate: Positive = 1e-3
    beta1: Annotated[float, Field(ge=0, lt=1)] = 0.9
    beta2: Annotated[float, Field(ge=0, lt=1)] = 0.999
    epsilon: Positive = 1e-8
    warmup_images: Annotated[int, Field(ge=0, description="The rate rises linearly over so many")] = 0
    decay_after_images: Annotated[
        Images | None, Field(description="From here on, learning_rate / sqrt(images seen / this) (EDM2); null: never")
    ] = None
    max_gradient_norm: Annotated[
        Positive | None,
        Field(
            description="A longer gradient of the whole batch is scaled down to this norm before the step; what is "
            "logged is its norm before that. null: never"
        ),
    ] = None


class ExponentialMovingAverage(Document):
    """Half-life in images, shortened at the start to `rampup_ratio` of the images seen so far.

    A run from `initial_weights` has the whole half-life from the start.
    """

    kind: Literal["exponential"]
    halflife_images: Images = 500_000
    rampup_ratio: Annotated[
        float, Field(gt=0, le=1, description="The half-life is at most this share of the images seen so far")
    ] = 0.05


class PowerFunctionAverage(Document):
    """Profiles (tau / t)^gamma (Karras et al. 2024, section 3); from the stored ones any other width can be rebuilt.

    Unlike the exponential average, they hold nothing of the weights a run started from.
    """

    kind: Literal["power"]
    relative_widths: Annotated[
        tuple[Annotated[float, Field(gt=0, lt=0.28)], ...],
        Strict(False),
        Field(
            fail_fast=True,
            min_length=1,
            max_length=4,
            description="sigma_rel of each profile; samples are drawn from the first",
        ),
    ] = (0.05, 0.10)


Average = Annotated[ExponentialMovingAverage | PowerFunctionAverage, Field(discriminator="kind")]


def average_names(config: ExponentialMovingAverage | PowerFunctionAverage) -> tuple[str, ...]:
    """What the averages are called wherever they are kept, in their order: `ema`, or `ema-0.050` by width."""
    match config:
        case ExponentialMovingAverage():
            return ("ema",)
        case PowerFunctionAverage():
            return tuple(f"ema-{_width(width)}" for width in config.relative_widths)
        case _:
            assert_never(config)


def _width(width: float) -> str:
    """Three digits, or as many as it takes to tell it from every other."""
    return short if float(short := f"{width:.3f}") == width else repr(width)


class Churn(Document):
    """New noise at each step between two levels (EDM, algorithm 2)."""

    amount: NotNegative = 40.0
    sigma_min: NotNegative = 0.05
    sigma_max: Positive = 50.0
    noise_scale: Positive = 1.003


Method = Annotated[
    Literal["heun", "euler", "ancestral", "dpmpp_2m"],
    Field(description="heun: 2 steps - 1 evaluations, second order; ancestral: the stochastic one"),
]
Steps = Annotated[int, Field(ge=2, le=1000)]
Guidance = Annotated[
    NotNegative, Field(description="Weight of classifier-free guidance, at twice the evaluations; 1: none")
]
GuidanceInterval = Annotated[
    tuple[NotNegative, Positive] | None,
    Strict(False),
    Field(
        description="Guidance acts at noise levels above the first and up to the second, at others it is 1 "
        "(Kynkäänniemi et al. 2024, arXiv 2404.07724); null: at all"
    ),
]
_WITH_CHURN = frozenset({"heun", "euler"})


class Sampler(Document):
    """How images are drawn, on the noise levels of EDM, equation 5."""

    method: Method = "heun"
    steps: Steps = 18
    sigma_min: Positive = 0.002
    sigma_max: Positive = 80.0
    rho: Positive = 7.0
    churn: Annotated[Churn | None, Field(description="For heun and euler; null: deterministic")] = None
    guidance: Guidance = 1.0
    guidance_interval: GuidanceInterval = None

    def guides_at(self, sigma: float) -> bool:
        """Whether guidance changes anything there."""
        low, high = self.guidance_interval or (0.0, math.inf)
        return self.guidance != 1 and low < sigma <= high


class SamplerChanges(Document):
    """What is drawn otherwise than in the training. What is null is as in the training's own sampler."""

    method: Method | None = None
    steps: Steps | None = None
    sigma_min: Positive | None = None
    sigma_max: Positive | None = None
    rho: Positive | None = None
    churn: Annotated[Churn | None, Field(description="For heun and euler; `amount` 0: deterministic")] = None
    guidance: Guidance | None = None
    guidance_interval: GuidanceInterval = None

    def applied_to(self, sampler: Sampler) -> Sampler:
        """The training's churn is left out where the method given takes none, its interval where nothing guides."""
        given = {name: value for name in type(self).model_fields if (value := getattr(self, name)) is not None}
        if self.method and self.method not in _WITH_CHURN and self.churn is None:
            given["churn"] = None
        if self.guidance == 1 and self.guidance_interval is None:
            given["guidance_interval"] = None
        return sampler.model_copy(update=given)


def sampler_problems(sampler: Sampler) -> list[Problem]:
    """Ranges that are upside down, settings without effect."""
    problems = []
    if sampler.sigma_min >= sampler.sigma_max:
        problems.append(Problem("/sigma_min", "range", "must be below sigma_max"))
    if sampler.churn and sampler.method not in _WITH_CHURN:
        problems.append(Problem("/churn", "no_effect", f"{sampler.method} takes none; set it to null"))
    if sampler.churn and sampler.churn.sigma_min >= sampler.churn.sigma_max:
        problems.append(Problem("/churn/sigma_min", "range", "must be below churn.sigma_max"))
    if sampler.guidance_interval:
        low, high = sampler.guidance_interval
        if low >= high:
            problems.append(Problem("/guidance_interval", "range", "the first noise level must be below the second"))
        elif sampler.guidance == 1:
            problems.append(Problem("/guidance_interval", "no_effect", "nothing guides: set guidance, or this to null"))
    return problems


def untrained_problems(sampler: Sampler, preconditioning: Preconditioning) -> list[Problem]:
    """Ends of the sampler's range that a network so trained has never seen."""
    low, high = trained_range(preconditioning)
    reason = f"must lie between {low:.6g} and {high:.6g}, the noise levels that preconditioning trains"
    problems = []
    if sampler.sigma_min < low:
        problems.append(Problem("/sigma_min", "out_of_range", reason))
    if sampler.sigma_max > high:
        problems.append(Problem("/sigma_max", "out_of_range", reason))
    return problems
