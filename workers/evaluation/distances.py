"""Distances between two sets of features: Fréchet's, of two Gaussians, and a kernel's, which needs fewer images."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from workers.evaluation.statistics import Statistics


def frechet_distance(a: Statistics, b: Statistics) -> float:
    """|mu_a - mu_b|^2 + tr(S_a + S_b - 2 (S_a S_b)^(1/2)) (Dowson & Landau 1982; as FID, Heusel et al. 2017).

    With S = F F^T, the trace of the root is the sum of the singular values of F_a^T F_b. Hence covariances may be
    singular, as those of fewer images than dimensions are: there is no root of a matrix, and no root of an eigenvalue
    that is nothing but rounding. Biased: fewer images are further apart, so compare at equal numbers only.

    Raises:
        ValueError: the features are not of the same kind.
    """
    if a.mean.shape != b.mean.shape:
        raise ValueError(f"features of {len(a.mean)} and of {len(b.mean)} dimensions have no distance")
    shared = torch.linalg.svdvals(a.factor().T @ b.factor()).sum()
    apart = (a.mean - b.mean).square().sum() + a.covariance.trace() + b.covariance.trace() - 2 * shared
    return max(float(apart), 0.0)


@dataclass(frozen=True, slots=True)
class KernelDistance:
    """A kernel distance, the mean over subsets of each set; it may be negative."""

    value: float
    standard_error: float  # of `value`, if the images are independent
    shares: tuple[float, ...]  # a number for each subset, spread so much more that they might be independent


def kernel_distance(
    a: Float[Tensor, "images_a dimensions"],
    b: Float[Tensor, "images_b dimensions"],
    *,
    subsets: int = 100,
    largest_subset: int = 1000,
    device: torch.device | None = None,
) -> KernelDistance:
    """The mean of `squared_mmd` over random subsets (KID, Bińkowski et al. 2018), always those of the same numbers.

    Subsets are compared on the features' device or on another.

    A subset is at most half of the smaller set, so that its values say how much chance there is in the images: drawn
    without replacement, m of n, they spread sqrt((n - m) / m) times as much as the mean over all subsets would with
    other images (the delete-d jackknife of Shao & Wu 1989; for equal distributions and for sets of unequal size that is
    the most it can be). The mean over k of them is further off by what these happen to be, variance / k; the two add up
    to variance * (m / (n - m) + 1 / k). `shares` spread accordingly; so do the differences between those of two
    distances to one set, since subsets are of the same numbers in each.

    Raises:
        ValueError: there are fewer than four images in a set.
    """
    images = min(len(a), len(b))
    size = min(largest_subset, images // 2)
    if size < 2:
        raise ValueError(f"{len(a)} and {len(b)} images are too few: four of each are the fewest")
    generator = torch.Generator().manual_seed(0)

    def subset(features: Tensor) -> Tensor:
        return features[torch.randperm(len(features), generator=generator)[:size].to(features.device)].to(device)

    values = torch.stack([squared_mmd(subset(a), subset(b)) for _ in range(subsets)])
    mean, spread = values.mean(), float(values.std()) if subsets > 1 else math.nan
    error = math.sqrt(size / (images - size) + 1 / subsets)
    shares = mean + (values - mean) * error * math.sqrt(subsets)
    return KernelDistance(float(mean), spread * error, tuple(shares.tolist()))


def squared_mmd(
    a: Float[Tensor, "images_a dimensions"], b: Float[Tensor, "images_b dimensions"]
) -> Float64[Tensor, ""]:
    """Unbiased estimate of the squared maximum mean discrepancy, kernel (x.y / dimensions + 1)^3 (the same paper)."""
    within = _mean_of_others(_kernel(a, a)) + _mean_of_others(_kernel(b, b))
    return within - 2 * _kernel(a, b).mean()


def _kernel(x: Float[Tensor, "rows dimensions"], y: Float[Tensor, "columns dimensions"]) -> Tensor:
    return (x.double() @ y.double().T / x.shape[1] + 1).pow(3)


def _mean_of_others(kernel: Float64[Tensor, "images images"]) -> Tensor:
    """The mean without the diagonal, which compares images with themselves."""
    return (kernel.sum() - kernel.trace()) / (len(kernel) * (len(kernel) - 1))
