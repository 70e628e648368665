"""Post-hoc averages: any power-function profile, as a combination of stored ones (Karras et al. 2024, section 3.2)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float64
from torch import Tensor

_NEGLIGIBLE = 2.0**-27  # of the largest coefficient: below what float32 weights tell apart


class Profile(NamedTuple):
    """p(tau) = (gamma + 1) tau^gamma / t^(gamma + 1) on 0 < tau <= t, times in images seen. Its integral is 1."""

    gamma: float
    images_seen: int


@dataclass(frozen=True, slots=True)
class Combination:
    """The sum of stored profiles nearest to a wanted one; a coefficient of exactly 0 needs no file.

    `relative_error` is the L2 distance between the two profiles, over the norm of the wanted one.
    """

    coefficients: tuple[float, ...]
    relative_error: float


def combination(stored: Sequence[Profile], wanted: Profile) -> Combination:
    """Solve for the coefficients c that minimise || sum_i c_i p_i - p ||^2 in L2, given that they sum to 1.

    The sum to 1 keeps what all stored weights agree on, however poor the fit. `stored` must hold no profile twice.
    """
    gram, wanted_products = _cosines(stored, stored), _cosines(stored, [wanted])[:, 0]
    scale = _norms([wanted]) / _norms(stored)  # from profiles of norm 1 to those of integral 1
    ones = torch.ones(1, 1, dtype=torch.float64)
    system = torch.cat([torch.cat([gram, scale[:, None]], 1), torch.cat([scale[None], 0 * ones], 1)])
    solution = torch.linalg.solve(system, torch.cat([wanted_products, ones[0]]))[:-1]
    squared = float(1 - 2 * solution @ wanted_products + solution @ gram @ solution)
    coefficients = solution * scale
    coefficients[coefficients.abs() < _NEGLIGIBLE * coefficients.abs().max()] = 0
    return Combination(tuple(coefficients.tolist()), max(squared, 0.0) ** 0.5)


def _cosines(rows: Sequence[Profile], columns: Sequence[Profile]) -> Float64[Tensor, "rows columns"]:
    """<p_a, p_b> / (|p_a| |p_b|) = sqrt((2 a + 1) (2 b + 1)) / (a + b + 1) (t_a / t_b)^(b + 1/2), for t_a <= t_b."""
    gamma_a, time_a = (value[:, None] for value in _split(rows))
    gamma_b, time_b = _split(columns)
    later = torch.where(time_a <= time_b, gamma_b, gamma_a)
    ratio = torch.minimum(time_a, time_b) / torch.maximum(time_a, time_b)
    return ((2 * gamma_a + 1) * (2 * gamma_b + 1)).sqrt() / (gamma_a + gamma_b + 1) * ratio ** (later + 0.5)


def _norms(profiles: Sequence[Profile]) -> Float64[Tensor, " profiles"]:
    """|p| = (gamma + 1) / sqrt((2 gamma + 1) t)."""
    gamma, time = _split(profiles)
    return (gamma + 1) / ((2 * gamma + 1) * time).sqrt()


def _split(profiles: Sequence[Profile]) -> tuple[Float64[Tensor, " profiles"], Float64[Tensor, " profiles"]]:
    values = torch.tensor(profiles, dtype=torch.float64)
    return values[:, 0], values[:, 1]
