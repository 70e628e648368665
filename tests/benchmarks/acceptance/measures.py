"""How good a denoiser of the ring is, beside the exact one. Measures are one number a seed, the lower the better.

    on       w(sigma) |D - D*|^2 at noisy data, sigma as in training
    on_gap   the same, at the noise levels where the case withholds DSM
    hot      the same as `on`, with 1.5 times the noise that the denoiser is told
    drift_h  the same along the denoiser's own paths of 18 Heun steps, at 0.01 <= sigma <= 5
    drift_s  the same along those of 40 ancestral steps
    viol     w(t) |E[D(x_s, s)] - D(x_t, t)|^2 along its own ancestral paths, r = 0.2: the consistency violation itself
    sw2_*    sliced Wasserstein distance of samples to the data; two sets of data differ by 0.031 +- 0.008
    mmd_*    squared maximum mean discrepancy of the same, without bias: 0 +- 0.002 for two sets of data

All squares are summed over the two coordinates. The points and noises are the same for every seed and arm. Numbers of
evaluation points, directions and bandwidths are fixed, so that runs compare.
"""

from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Generator, Tensor
from torch.nn import functional

from tests.benchmarks.acceptance.cases import Case
from tests.benchmarks.acceptance.stacking import apart
from tests.benchmarks.acceptance.training import PRECONDITIONING, RING, SIGMA_DATA
from workers.contract.model import Sampler
from workers.diffusion.conditions import UNCONDITIONAL, Conditions
from workers.diffusion.consistency import ancestral_step, u_statistic
from workers.diffusion.denoiser import Denoise
from workers.diffusion.preconditioning import draw_sigma, loss_weight
from workers.diffusion.samplers import sample

BySeed = Float[Tensor, " seeds"]

POINTS, PATHS, VIOLATION_PATHS, VIOLATION_DRAWS = 8192, 2048, 512, 16
HOT = 1.5
HEUN, ANCESTRAL = Sampler(method="heun", steps=18), Sampler(method="ancestral", steps=40)
_DRIFT_SIGMAS, _VIOLATION_SIGMAS, _VIOLATION_R = (0.01, 5.0), (0.02, 5.0), 0.2
_BANDWIDTHS = (0.05, 0.1, 0.2, 0.5)
_NOTHING = -80.0  # its exponential adds nothing to a sum in float32; where that underflows it takes ten times as long


def measure(denoise: Denoise, num_seeds: int, case: Case) -> dict[str, list[float]]:
    """All measures; `denoise` takes the points of all seeds side by side."""
    sigma, error = _noisy_data_errors(denoise, num_seeds, inflation=1.0)
    measured = {"on": error.mean(1)}
    if case.hidden:
        measured["on_gap"] = error[:, case.is_hidden(sigma)].mean(1)
    measured["hot"] = _noisy_data_errors(denoise, num_seeds, inflation=HOT)[1].mean(1)
    data = RING.sample(PATHS, Generator().manual_seed(11))
    for letter, sampler in (("h", HEUN), ("s", ANCESTRAL)):
        walk = Walk(denoise)
        samples = apart(walk.sample(sampler, num_seeds, PATHS, seed=9), num_seeds)
        measured[f"drift_{letter}"] = _drift(walk, num_seeds)
        measured[f"sw2_{letter}"] = sliced_wasserstein(samples, data)
        measured[f"mmd_{letter}"] = squared_mmd(samples, data)
    measured["viol"] = violation(denoise, num_seeds)
    return {name: values.tolist() for name, values in measured.items()}


def weighted_error(denoised: Tensor, x: Tensor, sigma: Float[Tensor, " points"]) -> Float[Tensor, " points"]:
    """w(sigma) |D - D*|^2, summed over the coordinates."""
    return _weight(sigma) * (denoised - RING(x, sigma)).square().sum(1)


def _weight(sigma: Float[Tensor, " points"]) -> Float[Tensor, " points"]:
    return loss_weight(PRECONDITIONING, SIGMA_DATA, sigma)


def _noisy_data_errors(
    denoise: Denoise, num_seeds: int, *, inflation: float
) -> tuple[Tensor, Float[Tensor, "seeds _"]]:
    """The noise level of each point that the denoiser is told, and each seed's errors there."""
    generator = Generator().manual_seed(21)
    sigma = draw_sigma(PRECONDITIONING, generator, POINTS)
    x = RING.sample(POINTS, generator) + inflation * sigma[:, None] * torch.randn(POINTS, 2, generator=generator)
    denoised = denoise(x.repeat_interleave(num_seeds, 0), sigma.repeat_interleave(num_seeds, 0))
    return sigma, torch.stack([weighted_error(each, x, sigma) for each in apart(denoised, num_seeds)])


@dataclass
class Walk:
    """A denoiser that remembers where the product's samplers took it: the points at which their steps began."""

    denoise: Denoise
    calls: list[tuple[Tensor, Tensor, Tensor]] = field(default_factory=list)

    def __call__(self, x: Tensor, sigma: Tensor, conditions: Conditions = UNCONDITIONAL) -> Tensor:
        denoised = self.denoise(x, sigma)
        self.calls.append((x, sigma, denoised))
        return denoised

    def sample(self, sampler: Sampler, num_seeds: int, paths: int, *, seed: int) -> Float[Tensor, "paths_seeds 2"]:
        """Draw the same paths for every seed, and keep what was evaluated at the start of each step."""
        generator = Generator().manual_seed(seed)
        latents = torch.randn(paths, 2, generator=generator).repeat_interleave(num_seeds, 0)
        noises = torch.randn(sampler.steps, paths, 2, generator=generator)
        samples = sample(self, latents, sampler, noise=lambda step: noises[step].repeat_interleave(num_seeds, 0))
        if sampler.method == "heun":  # every second evaluation is at the end of a step tried by Euler's method
            self.calls = self.calls[::2]
        assert len(self.calls) == sampler.steps
        return samples

    def between(self, low: float, high: float) -> list[tuple[Tensor, Tensor, Tensor]]:
        return [call for call in self.calls if low <= float(call[1][0]) <= high]


def _drift(walk: Walk, num_seeds: int) -> BySeed:
    errors = [weighted_error(denoised, x, sigma) for x, sigma, denoised in walk.between(*_DRIFT_SIGMAS)]
    return apart(torch.stack(errors).mean(0), num_seeds).mean(1)


def violation(denoise: Denoise, num_seeds: int) -> BySeed:
    """The mean over the levels of the denoiser's own paths; unbiased, by all pairs of 16 draws."""
    walk = Walk(denoise)
    walk.sample(ANCESTRAL, num_seeds, VIOLATION_PATHS, seed=10)
    generator, violations = Generator().manual_seed(12), []
    for x, sigma, denoised in walk.between(*_VIOLATION_SIGMAS):
        sigma_next = (1 - _VIOLATION_R) * sigma
        noises = torch.randn(VIOLATION_DRAWS, VIOLATION_PATHS, 2, generator=generator).repeat_interleave(num_seeds, 1)
        reached = (ancestral_step(x, denoised, sigma, sigma_next, noise) for noise in noises)
        gaps = torch.stack([denoise(each, sigma_next) - denoised for each in reached])
        violations.append(_weight(sigma) * 2 * u_statistic(gaps))  # the product averages over the two coordinates
    return apart(torch.stack(violations).mean(0), num_seeds).mean(1)


def sliced_wasserstein(samples: Float[Tensor, "seeds paths 2"], data: Float[Tensor, "paths 2"]) -> BySeed:
    """The root mean square distance of sorted projections, over 64 directions."""
    directions = functional.normalize(torch.randn(64, 2, generator=Generator().manual_seed(3)), dim=1)
    ours, theirs = (samples @ directions.T).sort(1).values, (data @ directions.T).sort(0).values
    return (ours - theirs).square().mean((1, 2)).sqrt()


def squared_mmd(samples: Float[Tensor, "seeds paths 2"], data: Float[Tensor, "paths 2"]) -> BySeed:
    """With a sum of Gaussian kernels, the diagonal left out: unbiased, so at times negative."""
    within_data = _mean_kernel(data, data, off_diagonal=True)
    return torch.stack(
        [
            _mean_kernel(each, each, off_diagonal=True) + within_data - 2 * _mean_kernel(each, data, off_diagonal=False)
            for each in samples
        ]
    )


def _mean_kernel(x: Tensor, y: Tensor, *, off_diagonal: bool) -> Float[Tensor, ""]:
    squares = torch.cdist(x, y).square_()
    exponents = (squares / (-2 * width**2) for width in _BANDWIDTHS)
    total = torch.stack([each.clamp_(min=_NOTHING).exp_().sum() for each in exponents]).sum()
    if off_diagonal:  # where the kernel is one, for each bandwidth
        return (total - len(_BANDWIDTHS) * len(x)) / (len(x) * (len(x) - 1))
    return total / squares.numel()
