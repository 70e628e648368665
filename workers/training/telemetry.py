"""What is measured of every step, on its device, and only brought to the host when somebody looks."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from workers.contract.consistency import Consistency
from workers.diffusion.objective import Terms
from workers.training.world import World

# Bins of sigma: below the first, between two, above the last.
SIGMA_EDGES = (0.03, 0.1, 0.3, 1.0, 3.0)
BIN_NAMES = ("0-0.03", "0.03-0.1", "0.1-0.3", "0.3-1", "1-3", "3-inf")
_FEWEST_STEPS = 10  # that say whether most are skipped; a single one is skipped now and then in a healthy run


@dataclass(frozen=True, slots=True)
class Measured:
    """Means since the last look, over all processes; a loss is NaN if most of what it is made of is not finite."""

    losses: dict[str, float]
    telemetry: dict[str, float]
    mostly_skipped: bool

    @property
    def trouble(self) -> str | None:
        """Why going on makes no sense; None if it does."""
        if not all(map(math.isfinite, self.losses.values())):
            return f"most losses are not finite: {self.losses}"
        return "most gradients are not finite, their steps were skipped" if self.mostly_skipped else None


class Window:
    """Sums both losses by noise level, and gradient norms; the device is only waited for when looking.

    Steps are judged by ten or more: those of a shorter window count with the next. In bfloat16 the inconsistency below
    sigma = 0.1 is mostly rounding, which the gradient hardly sees; an evaluation's gap is computed in float32.
    """

    def __init__(self, world: World, term: Consistency | None) -> None:
        """The term's loss is the inconsistency, in the term's weighting, unless it is a regression's."""
        self._world = world
        self._weight = term.weight if term else 0.0
        self._term_name = "target_regression" if term and term.regresses_on_average else "consistency"
        self._edges = torch.tensor(SIGMA_EDGES, device=world.device)
        self._bins = torch.arange(len(BIN_NAMES), device=world.device)
        self._unjudged = (0.0, 0.0)  # steps taken and skipped
        # Of the finite values, their number, and that of the others: by loss and bin, and of gradient norms.
        self._losses = torch.zeros(2, 3, len(BIN_NAMES), dtype=torch.float64, device=world.device)
        self._steps = torch.zeros(3, dtype=torch.float64, device=world.device)

    def add(self, terms: Terms, gradient_norm: Float[Tensor, ""]) -> None:
        """One step; a step whose gradient is not finite is one that the optimizer has skipped."""
        which = torch.bucketize(terms.sigma.contiguous(), self._edges)
        dsm = self._by_bin(terms.dsm, which)
        consistency = self._by_bin(terms.consistency, which[: len(terms.consistency)])
        self._losses += torch.stack([dsm, consistency])
        self._steps += _sums(gradient_norm)

    def close(self) -> Measured:
        """The means; then start anew."""
        sums = self._world.all_reduce(torch.cat([self._losses.flatten(), self._steps])).cpu()
        self._losses.zero_()
        self._steps.zero_()
        norm, steps, skipped = sums[-3:].tolist()
        by_term = sums[:-3].view(self._losses.shape).tolist()
        losses: dict[str, float] = {}
        telemetry: dict[str, float] = {}
        for name, (totals, counts, bad) in zip(("dsm", self._term_name), by_term, strict=True):
            if not sum(counts) + sum(bad):
                continue
            losses[name] = sum(totals) / sum(counts) if sum(counts) >= sum(bad) else math.nan
            rows = zip(BIN_NAMES, totals, counts, strict=True)
            telemetry |= {f"{name}_by_sigma/{bin_}": total / count for bin_, total, count in rows if count}
        if self._term_name in losses:
            telemetry[f"loss/{self._term_name}_share"] = self._weight * losses[self._term_name] / losses["dsm"]
        if steps:
            telemetry["optimizer/gradient_norm"] = norm / steps
        telemetry["optimizer/skipped_steps"] = skipped / self._world.size
        return Measured(losses, telemetry, mostly_skipped=self._mostly_skipped(steps, skipped))

    def _mostly_skipped(self, steps: float, skipped: float) -> bool:
        taken, left_out = self._unjudged[0] + steps, self._unjudged[1] + skipped
        is_enough = taken + left_out >= _FEWEST_STEPS * self._world.size
        self._unjudged = (0.0, 0.0) if is_enough else (taken, left_out)
        return is_enough and left_out > taken

    def _by_bin(self, losses: Float[Tensor, " images"], which: Int[Tensor, " images"]) -> Float[Tensor, "3 bins"]:
        return _sums(losses) @ (which[:, None] == self._bins).double()  # products, so no atomics


def _sums(values: Float[Tensor, " *values"]) -> Float[Tensor, "3 *values"]:
    """What adds up to the sum of the finite values, their number, and that of the others."""
    finite = values.isfinite()
    return torch.stack([values.nan_to_num(0, 0, 0), finite, ~finite]).double()
