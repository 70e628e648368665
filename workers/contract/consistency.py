"""The martingale regulariser of CDM: which estimator, on which intervals, on how much of a batch, from when on.

F is the cost of one network evaluation; a plain EDM step costs 3 F an image (a backward pass counts two). Wrong
estimators cannot be written here: a single sample squared measures the variance of the prediction instead of its
inconsistency, the product of an antithetic pair is unbounded below, and the square of its mean is biased.
"""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from workers.contract.document import Document, NotNegative, Positive, Problem

ONE_STEP_MAX_R = 0.3
MAX_R = 0.5


class RelativeInterval(Document):
    """From sigma to sigma' = sigma (1 - r), r ~ U[r_min, r_max]: every noise level is treated alike."""

    kind: Literal["relative"]
    r_min: Annotated[float, Field(ge=0, lt=1)] = 0.0
    r_max: Annotated[
        float, Field(gt=0, le=MAX_R, description="One ancestral step is accurate up to 0.3, two up to 0.5")
    ] = ONE_STEP_MAX_R


class AbsoluteInterval(Document):
    """From sigma to sigma' = max(sigma - e, sigma_floor), e ~ U[length_min, length_max], as in the released CDM.

    That is 0.4 % of sigma at one end of the training noise and 90 % at the other. Images whose sigma is below the floor
    carry no term.
    """

    kind: Literal["absolute"]
    length_min: NotNegative = 0.0
    length_max: Annotated[float, Field(gt=0, le=0.1)] = 0.05
    sigma_floor: Annotated[float, Field(gt=0, le=0.1)] = 0.002


Interval = Annotated[RelativeInterval | AbsoluteInterval, Field(discriminator="kind")]


class _Estimator(Document):
    """What every estimator can be told."""

    regresses_on_average: ClassVar[bool] = False  # evaluates the frozen EMA network; its loss is no inconsistency

    estimator: str
    weight: Annotated[Positive, Field(description="lambda, beside the weighting")] = 1.0
    weighting: Annotated[
        Literal["dsm", "none"], Field(description="dsm: as denoising score matching weights sigma; none: not at all")
    ] = "dsm"
    interval: Interval = RelativeInterval(kind="relative")
    steps: Annotated[int, Field(gt=0, le=16, description="Steps of the reverse process per interval")] = 1
    batch_fraction: Annotated[float, Field(gt=0, le=1, description="Share of the batch that carries the term")] = 0.25
    start: Annotated[float, Field(ge=0, lt=1, description="Share of the run that goes by before the term is on")] = 0.0
    dropout: Annotated[
        Literal["shared", "off", "independent"],
        Field(
            description="shared: one mask for all predictions of an image; off: none, for one more evaluation; "
            "independent, for paper only: another for each prediction, as in the released code"
        ),
    ] = "shared"


class Symmetric(_Estimator):
    """Unbiased; gradients through all predictions. 3 F per sample on its part of the batch: 1.5 times EDM by default.

    With more than two samples, the U-statistic over all pairs: less variance, more evaluations.
    """

    estimator: Literal["symmetric"]
    samples: Annotated[int, Field(ge=2, le=8, description="Reverse paths of each image; all their pairs count")] = 2


class Asymmetric(_Estimator):
    """The same expected gradient as `symmetric` with two samples, one of them without gradient: 4 F, more variance."""

    estimator: Literal["asymmetric"]


class Antithetic4(_Estimator):
    """The product of two means, each over an antithetic pair: 12 F, unbiased, far less variance than 4 samples."""

    estimator: Literal["antithetic4"]


class Target(_Estimator):
    """Regression on the frozen EMA network: 1 F, a semi-gradient with the same fixed points. The light mode.

    Knowledge flows from low noise to high noise only.
    """

    regresses_on_average = True

    estimator: Literal["target"]


class Paper(_Estimator):
    """The released CDM: two samples by five Euler-Maruyama steps, absolute interval, unweighted, lambda 10, all images.

    Mended: all evaluations are told how their image was augmented, and the first one of the chains is the one that
    denoising score matching has made. By default they share their dropout masks, too. The released code draws masks
    anew for each evaluation, as `dropout: independent` does: that adds the variance of predictions over masks to the
    loss, which can be most of it, and acts as a regulariser of its own. The published FIDs were trained so.
    """

    estimator: Literal["paper"]
    weight: Annotated[Positive, Field(description="lambda, beside the weighting")] = 10.0
    weighting: Annotated[
        Literal["dsm", "none"], Field(description="dsm: as denoising score matching weights sigma; none: not at all")
    ] = "none"
    interval: Interval = AbsoluteInterval(kind="absolute")
    steps: Annotated[int, Field(gt=0, le=16, description="Steps of the reverse process per interval")] = 5
    batch_fraction: Annotated[float, Field(gt=0, le=1, description="Share of the batch that carries the term")] = 1.0


Consistency = Annotated[Symmetric | Asymmetric | Antithetic4 | Target | Paper, Field(discriminator="estimator")]

_OVER_REGULARISED = 10.0


def consistency_problems(term: Consistency) -> list[Problem]:
    """What does not go together, with the reason."""
    problems = []
    match term.interval:
        case RelativeInterval(r_min=r_min, r_max=r_max):
            if r_min >= r_max:
                problems.append(Problem("/interval/r_min", "range", "must be below r_max"))
            if r_max > ONE_STEP_MAX_R and term.steps == 1 and term.estimator != "paper":
                reason = f"one step is too biased beyond r_max = {ONE_STEP_MAX_R}; take 2, or lower interval.r_max"
                problems.append(Problem("/steps", "biased", reason))
        case AbsoluteInterval(length_min=length_min, length_max=length_max):
            if length_min >= length_max:
                problems.append(Problem("/interval/length_min", "range", "must be below length_max"))
    if term.estimator == "paper" and term.steps == 1:
        reason = "one Euler-Maruyama step is too biased; take 2 or more, or the estimator symmetric"
        problems.append(Problem("/steps", "biased", reason))
    if term.estimator != "paper" and term.dropout == "independent":
        reason = "the variance of predictions over masks would pass for inconsistency; set it to shared"
        problems.append(Problem("/dropout", "biased", reason))
    if term.estimator == "target" and term.dropout == "off":
        reason = "target regresses the prediction of score matching, with its masks; set it to shared"
        problems.append(Problem("/dropout", "no_effect", reason))
    if term.weighting == "dsm" and term.weight >= _OVER_REGULARISED:
        reason = f"{_OVER_REGULARISED:g} or more over-regularises with weighting dsm; take about 1, or weighting none"
        problems.append(Problem("/weight", "over_regularised", reason))
    return problems
