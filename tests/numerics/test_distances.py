"""Distances between sets of features, beside other ways to compute them and where the answer is known."""

import math

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm
from scipy.stats import mannwhitneyu, norm
from torch import Tensor

from workers.evaluation.distances import frechet_distance, kernel_distance, squared_mmd
from workers.evaluation.memorisation import mann_whitney_z, memorisation
from workers.evaluation.statistics import Statistics


def normal(images: int, dimensions: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(images, dimensions, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def features(images: int, dimensions: int, seed: int) -> Tensor:
    """Correlated, of very different variances, never negative: like those of a network."""
    mixing = normal(dimensions, dimensions, seed=99) * torch.logspace(0, -3, dimensions, dtype=torch.float64)
    return (normal(images, dimensions, seed) @ mixing.T + seed / 10).relu()


def gaussian(mean: Tensor, covariance: Tensor) -> Statistics:
    return Statistics(1000, mean.double(), covariance.double())


def by_matrix_root(a: Statistics, b: Statistics) -> float:
    """The formula as it stands, by the Schur method."""
    root = sqrtm(a.covariance.numpy() @ b.covariance.numpy()).real
    traces = a.covariance.trace() + b.covariance.trace() - 2 * np.trace(root)
    return float((a.mean - b.mean).square().sum() + traces)


def test_the_frechet_distance_is_that_of_its_formula() -> None:
    for dimensions in (2, 16, 100):
        a, b = (Statistics.of(features(400, dimensions, seed)) for seed in (1, 2))

        assert frechet_distance(a, b) == pytest.approx(by_matrix_root(a, b), rel=1e-6)
        assert frechet_distance(a, b) == pytest.approx(frechet_distance(b, a), rel=1e-9)


def test_it_is_exact_where_covariances_commute() -> None:
    """Then it is |mu_a - mu_b|^2 + |S_a^(1/2) - S_b^(1/2)|^2, in any basis that both are diagonal in."""
    basis, _ = torch.linalg.qr(normal(60, 60))
    spread_a, spread_b = torch.logspace(2, -3, 60, dtype=torch.float64), normal(60, 1, seed=3)[:, 0].abs()
    mean_a, mean_b = normal(2, 60, seed=4)
    expected = float((mean_a - mean_b).square().sum() + (spread_a - spread_b).square().sum())

    a, b = (gaussian(mean, basis * spread**2 @ basis.T) for mean, spread in ((mean_a, spread_a), (mean_b, spread_b)))

    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-9)


def test_covariances_of_few_images_are_singular_and_do_no_harm() -> None:
    """Beside the same in the space that the images span, where they are not singular (20 images, so 19 dimensions)."""
    few, more = features(20, 200, seed=1), features(35, 200, seed=2)
    spanned, _ = torch.linalg.qr(torch.cat([few, more]).T)

    found = frechet_distance(Statistics.of(few), Statistics.of(more))

    products = (few - few.mean(0)) @ (more - more.mean(0)).T / math.sqrt(19 * 34)
    traces = few.var(dim=0).sum() + more.var(dim=0).sum() - 2 * torch.linalg.svdvals(products).sum()
    expected = float((few.mean(0) - more.mean(0)).square().sum() + traces)
    assert found == pytest.approx(expected, rel=1e-8)
    assert found == pytest.approx(
        frechet_distance(Statistics.of(few @ spanned), Statistics.of(more @ spanned)), rel=1e-8
    )


@pytest.mark.parametrize("images", [10, 60, 500])
def test_a_set_is_at_no_distance_from_itself(images: int) -> None:
    itself = Statistics.of(features(images, 60, seed=1))

    assert frechet_distance(itself, itself) <= 1e-8 * float(itself.covariance.trace())


def test_few_images_are_as_far_away_by_their_features_as_by_their_covariance() -> None:
    few, more = features(20, 64, seed=1), 2 * features(200, 64, seed=2)
    of_few, of_more = Statistics.of(few), Statistics.of(more)
    published = Statistics(of_few.count, of_few.mean, of_few.covariance)

    assert of_few.factor().shape == (64, 20)
    assert frechet_distance(of_few, of_more) == pytest.approx(frechet_distance(published, of_more), rel=1e-9)


def test_one_point_or_other_dimensions_are_no_reason_to_guess() -> None:
    alike = Statistics.of(torch.ones(5, 3))

    assert frechet_distance(alike, alike) == 0
    with pytest.raises(ValueError, match="of 3 and of 4 dimensions"):
        frechet_distance(alike, Statistics.of(torch.ones(5, 4)))
    with pytest.raises(ValueError, match="two are the fewest"):
        Statistics.of(torch.ones(1, 3))


def test_statistics_are_those_of_numpy_in_whatever_pieces() -> None:
    many = features(10_000, 5, seed=1).float() + 1000

    found = Statistics.of(many)

    assert found.count == 10_000
    assert np.allclose(found.mean, many.numpy().astype(np.float64).mean(axis=0), rtol=1e-12)
    assert np.allclose(found.covariance, np.cov(many.numpy().astype(np.float64), rowvar=False), rtol=1e-9)


def test_the_squared_discrepancy_is_that_of_its_definition() -> None:
    a, b = features(7, 4, seed=1), features(5, 4, seed=2)

    def kernel(x: Tensor, y: Tensor) -> float:
        return float((x @ y / 4 + 1) ** 3)

    within_a = np.mean([kernel(a[i], a[j]) for i in range(7) for j in range(7) if i != j])
    within_b = np.mean([kernel(b[i], b[j]) for i in range(5) for j in range(5) if i != j])
    between = np.mean([kernel(x, y) for x in a for y in b])
    assert float(squared_mmd(a, b)) == pytest.approx(within_a + within_b - 2 * between, rel=1e-9)


def test_the_kernel_distance_is_unbiased_and_knows_how_sure_it_is() -> None:
    """Between draws of one distribution it is 0 on average; shifted, as far off as its standard errors say."""
    same = [kernel_distance(normal(60, 8, 2 * k), normal(60, 8, 2 * k + 1), subsets=20) for k in range(200)]
    shifted = [kernel_distance(normal(60, 8, 2 * k), normal(60, 8, 2 * k + 1) + 1, subsets=20) for k in range(200)]
    truth = float(squared_mmd(normal(4000, 8, 1000), normal(4000, 8, 1001) + 1))

    values = np.array([each.value for each in same])
    assert abs(values.mean()) < 3 * values.std() / math.sqrt(200)
    values = np.array([each.value for each in shifted])
    assert values.mean() == pytest.approx(truth, rel=0.05)
    assert np.mean([each.standard_error for each in shifted]) == pytest.approx(values.std(), rel=0.2)


def test_the_error_of_a_kernel_distance_counts_which_few_subsets_it_happened_to_take() -> None:
    """With all 400 images in play and 50 of them looked at, the draw of the subsets is most of the error."""
    found = [
        kernel_distance(normal(400, 8, 2 * k), normal(400, 8, 2 * k + 1) + 1, subsets=5, largest_subset=10)
        for k in range(200)
    ]

    spread = np.std([each.value for each in found])
    assert math.sqrt(np.mean([each.standard_error**2 for each in found])) == pytest.approx(spread, rel=0.2)


def test_what_two_kernel_distances_differ_by_is_as_sure_as_their_shares_say() -> None:
    """Of two models that make nearly the same images of the same seeds, beside the same real ones."""
    apart, errors, alone = [], [], []
    for number in range(100):
        real, drawn = normal(60, 8, 3 * number), normal(60, 8, 3 * number + 1)
        a, b = (kernel_distance(drawn + 0.2 * normal(60, 8, 3 * number + 2) + shift, real) for shift in (1.0, 1.05))
        shares = np.array(a.shares) - np.array(b.shares)
        apart.append(a.value - b.value)
        errors.append(shares.std(ddof=1) / math.sqrt(len(shares)))
        alone.append(math.hypot(a.standard_error, b.standard_error))
        assert np.mean(a.shares) == pytest.approx(a.value)
        assert np.std(a.shares, ddof=1) / math.sqrt(len(a.shares)) == pytest.approx(a.standard_error)
        assert np.mean(shares) == pytest.approx(apart[-1])

    assert np.mean(errors) == pytest.approx(np.std(apart, ddof=1), rel=0.25)
    assert np.mean(errors) < np.mean(alone) / 5


def test_the_kernel_distance_is_a_function_of_features() -> None:
    a, b = features(50, 6, seed=1), features(70, 6, seed=2)
    before = torch.get_rng_state()

    assert kernel_distance(a, b) == kernel_distance(a, b)
    assert torch.equal(torch.get_rng_state(), before)
    assert kernel_distance(a, b) == kernel_distance(a, b, largest_subset=25) != kernel_distance(a, b, largest_subset=10)
    with pytest.raises(ValueError, match="four of each"):
        kernel_distance(a, b[:3])


@pytest.mark.parametrize("ties", [False, True])
def test_ranks_are_compared_as_scipy_does_it(ties: bool) -> None:
    a, b = normal(80, 1, seed=1)[:, 0], normal(50, 1, seed=2)[:, 0] + 0.4
    if ties:
        a, b = a.round(), b.round()

    z = mann_whitney_z(a, b)

    p = mannwhitneyu(a.numpy(), b.numpy(), alternative="less", use_continuity=False, method="asymptotic").pvalue
    assert z == pytest.approx(norm.ppf(p), rel=1e-9)
    assert mann_whitney_z(b, a) == pytest.approx(-z, rel=1e-9)
    assert mann_whitney_z(torch.ones(4, dtype=torch.float64), torch.ones(5, dtype=torch.float64)) == 0


def test_copies_are_found_and_new_images_are_not() -> None:
    training, new = normal(500, 8, seed=1), normal(400, 8, seed=2)
    copied = torch.cat([new[:300], training[100:200]])

    honest, copying = memorisation(new, training), memorisation(copied, training)

    assert honest.share_nearer < 0.03
    assert abs(honest.z) < 3
    assert copying.share_nearer == pytest.approx(0.25, abs=0.03)
    assert copying.z < -5
    assert copying.nearest.indices[300:].tolist() == list(range(100, 200))
    assert copying.nearest.distances[300:].tolist() == [0.0] * 100


def test_images_that_a_training_set_has_twice_are_no_copies_of_themselves() -> None:
    once = normal(100, 8)

    found = memorisation(normal(50, 8, seed=1), torch.cat([once, once[:1]]))

    assert found.share_nearer == 0


def test_without_images_to_compare_there_is_no_answer() -> None:
    with pytest.raises(ValueError, match="nothing to compare"):
        memorisation(normal(5, 2), normal(1, 2))
