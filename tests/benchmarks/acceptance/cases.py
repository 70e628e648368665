"""What is compared: at which noise levels denoising score matching (DSM) is withheld, and what is trained there.

In an ordinary run DSM says the truth at every noise level, and a consistency term can add little. Where DSM is withheld
from some of the levels, only consistency can carry knowledge there from the others: the theorem of Daras et al. 2023,
made an experiment. Cases in which it does not pay are here for that reason.
"""

import math
from dataclasses import dataclass

from jaxtyping import Bool, Float
from torch import Tensor

from workers.contract.consistency import Antithetic4, Asymmetric, Consistency, Paper, Symmetric, Target


@dataclass(frozen=True, slots=True)
class Case:
    """A training problem. DSM is silent for sigma strictly between the two `hidden` levels; None: it never is."""

    name: str
    title: str
    hidden: tuple[float, float] | None = None

    def is_hidden(self, sigma: Float[Tensor, " points"]) -> Bool[Tensor, " points"]:
        low, high = self.hidden or (math.inf, 0.0)
        return (sigma > low) & (sigma < high)

    @property
    def heading(self) -> str:
        return f"{self.name}: {self.title}"

    @property
    def headline(self) -> str:
        """The measure that the case is about: the denoiser's error where DSM is silent, or everywhere."""
        return "on_gap" if self.hidden else "on"


@dataclass(frozen=True, slots=True)
class Arm:
    """One way to train in one case. `squared`: the wrong estimator, in place of `term`, whose settings it takes."""

    case: Case
    name: str
    steps: int
    term: Consistency | None = None
    squared: bool = False

    @property
    def key(self) -> str:
        return f"{self.case.name} / {self.name}"


HIGH = Case("A", "DSM only for σ ≤ 0.2", (0.2, math.inf))
ORDINARY = Case("Ordinary", "DSM at all noise levels")
BAND = Case("B", "DSM everywhere but 0.15 < σ < 0.6", (0.15, 0.6))
WIDE_BAND = Case("C", "DSM everywhere but 0.1 < σ < 1", (0.1, 1.0))
LOW = Case("D", "DSM only for σ ≥ 0.2", (0.0, 0.2))
CASES = (HIGH, ORDINARY, BAND, WIDE_BAND, LOW)

# The settings: weight 1, weighting dsm, r ~ U[0, 0.3] and one step are the contract's own.
SYMMETRIC = Symmetric(estimator="symmetric", batch_fraction=1)
QUARTER = Symmetric(estimator="symmetric", batch_fraction=0.25)
ASYMMETRIC = Asymmetric(estimator="asymmetric", batch_fraction=1)
TARGET = Target(estimator="target", batch_fraction=1)
ANTITHETIC = Antithetic4(estimator="antithetic4", batch_fraction=1)
PAPER = Paper(estimator="paper")


def dsm(case: Case, steps: int) -> Arm:
    """The baseline; at three times the steps it costs as much as `symmetric` on the whole batch."""
    return Arm(case, f"DSM {steps}", steps)


ARMS = (
    *(dsm(HIGH, steps) for steps in (3000, 4500, 9000, 17000)),
    Arm(HIGH, "symmetric", 3000, SYMMETRIC),
    Arm(HIGH, "symmetric 1/4", 3000, QUARTER),
    Arm(HIGH, "asymmetric", 3000, ASYMMETRIC),
    Arm(HIGH, "target", 3000, TARGET),
    Arm(HIGH, "antithetic4", 3000, ANTITHETIC),
    Arm(HIGH, "paper", 3000, PAPER),
    Arm(HIGH, "one sample squared (wrong)", 3000, SYMMETRIC, squared=True),
    *(dsm(ORDINARY, steps) for steps in (3000, 4500, 9000, 17000)),
    Arm(ORDINARY, "symmetric", 3000, SYMMETRIC),
    Arm(ORDINARY, "symmetric 1/4", 3000, QUARTER),
    Arm(ORDINARY, "target", 3000, TARGET),
    Arm(ORDINARY, "paper", 3000, PAPER),
    *(dsm(BAND, steps) for steps in (3000, 4500, 9000)),
    Arm(BAND, "symmetric", 3000, SYMMETRIC),
    Arm(BAND, "symmetric 1/4", 3000, QUARTER),
    Arm(BAND, "target", 3000, TARGET),
    *(dsm(WIDE_BAND, steps) for steps in (4000, 6000, 12000)),
    Arm(WIDE_BAND, "symmetric", 4000, SYMMETRIC),
    Arm(WIDE_BAND, "symmetric 1/4", 4000, QUARTER),
    *(dsm(LOW, steps) for steps in (3000, 9000)),
    Arm(LOW, "symmetric", 3000, SYMMETRIC),
)
