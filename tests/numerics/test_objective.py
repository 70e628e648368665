"""The loss of a step: its parts, its randomness, and how workers share it."""

import math
from typing import Any

import pytest
import torch
from pydantic import TypeAdapter
from torch import Tensor

from tests.support.denoisers import NUM_CLASSES, SHAPE, small_denoiser
from tests.support.oracles import GaussianDenoiser
from workers.contract.consistency import AbsoluteInterval, Consistency, RelativeInterval, Symmetric
from workers.contract.model import EDM, VE, VP
from workers.diffusion.conditions import NO_CLASS, Conditions
from workers.diffusion.objective import Draws, Objective, Randomness, Terms, interval_end

EDM_NOISE = EDM(kind="edm")
PRECONDITIONINGS = [EDM_NOISE, VP(kind="vp"), VE(kind="ve")]
ESTIMATORS = ("symmetric", "asymmetric", "antithetic4", "target", "paper")


def configured(estimator: str, **fields: Any) -> Consistency:
    term: Consistency = TypeAdapter(Consistency).validate_python({"estimator": estimator, **fields})
    return term


def drawn(
    term: Consistency | None, *, num_images: int = 12, sub: int = 6, seed: int = 0, dropout: float = 0.0, **more: Any
) -> Draws:
    randomness = Randomness(SHAPE, EDM_NOISE, term, dropout=dropout, dropout_elements=8 * 64, **more)
    return randomness.draw(torch.Generator().manual_seed(seed), num_images=num_images, sub=sub)


def batch(count: int = 12) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(7)
    return torch.randn(count, *SHAPE, generator=generator), torch.randint(NUM_CLASSES, (count,), generator=generator)


def evaluations(objective: Objective, term: Consistency, **options: Any) -> list[tuple[int, bool]]:
    """How many images each evaluation of the trained network has, and whether it keeps a gradient."""
    seen: list[tuple[int, bool]] = []
    network = objective.denoiser.network
    handle = network.register_forward_pre_hook(
        lambda module, inputs: seen.append((len(inputs[0]), torch.is_grad_enabled()))
    )
    objective(*batch(), drawn(term, sub=4, dropout=options.pop("dropout", 0.0)), **options)
    handle.remove()
    return seen


@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_shares_of_all_workers_average_to_the_whole_batch(estimator: str, dropout: float) -> None:
    independent = {"dropout": "independent"} if estimator == "paper" else {}
    term = configured(estimator, batch_fraction=0.5, **independent)
    objective, frozen = Objective(small_denoiser(dropout=dropout), term), small_denoiser(1)
    images, labels = batch()
    draws = drawn(term, dropout=dropout, label_dropout=0.3)

    whole = objective(images, labels, draws, frozen=frozen)
    parts = [objective(images[rank::3], labels[rank::3], draws.share(rank, 3), frozen=frozen) for rank in range(3)]

    assert torch.allclose(torch.stack([part.dsm for part in parts], dim=1).flatten(), whole.dsm, rtol=1e-4)
    totals = torch.stack([objective.total(part) for part in parts]).detach()
    assert float(totals.mean()) == pytest.approx(float(objective.total(whole).detach()), rel=1e-4)


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_gradients_of_all_workers_average_to_those_of_the_whole_batch(estimator: str) -> None:
    term = configured(estimator, batch_fraction=0.5)
    objective, frozen = Objective(small_denoiser(), term), small_denoiser(1)
    images, labels = batch()
    draws = drawn(term)
    weights = list(objective.parameters())

    whole = torch.autograd.grad(objective.total(objective(images, labels, draws, frozen=frozen)), weights)
    for rank in range(3):
        terms = objective(images[rank::3], labels[rank::3], draws.share(rank, 3), frozen=frozen)
        (objective.total(terms) / 3).backward()

    for weight, expected in zip(weights, whole, strict=True):
        assert weight.grad is not None
        assert torch.allclose(weight.grad, expected, rtol=1e-3, atol=1e-5 * float(expected.abs().max()) + 1e-8)


def test_passes_are_joined_with_the_images_that_carry_the_term_in_front() -> None:
    parts = [
        Terms(torch.tensor([1.0, 3.0]), torch.tensor([10.0, 30.0]), torch.tensor([100.0])),
        Terms(torch.tensor([2.0, 4.0]), torch.tensor([20.0, 40.0]), torch.tensor([200.0])),
    ]

    joined = Terms.joined(parts)

    assert joined.sigma.tolist() == [1, 2, 3, 4]
    assert joined.dsm.tolist() == [10, 20, 30, 40]
    assert joined.consistency.tolist() == [100, 200]


@pytest.mark.parametrize("preconditioning", PRECONDITIONINGS, ids=lambda each: each.kind)
def test_without_the_term_the_loss_is_plain_denoising_score_matching(preconditioning: EDM | VP | VE) -> None:
    denoiser = small_denoiser()
    denoiser.preconditioning = preconditioning
    images, labels = batch()
    draws = drawn(None)

    objective = Objective(denoiser, None)
    terms: Terms = objective(images, labels, draws)

    x = images + draws.sigma.view(-1, 1, 1, 1) * draws.noise
    error = (denoiser(x, draws.sigma, _told(labels)) - images).square().mean(dim=(1, 2, 3))
    assert torch.allclose(terms.dsm, denoiser.weight(draws.sigma) * error)
    assert terms.consistency.numel() == 0
    assert torch.equal(objective.total(terms), terms.dsm.mean())


@pytest.mark.parametrize(
    ("estimator", "expected"),
    [
        ("symmetric", [(12, True), (8, True)]),
        ("asymmetric", [(12, True), (4, False), (4, True)]),
        ("antithetic4", [(12, True), (16, True)]),
        ("target", [(12, True)]),
        ("paper", [(12, True), *[(8, False)] * 4, (8, True)]),
    ],
)
def test_the_term_costs_the_evaluations_that_its_estimator_promises(
    estimator: str, expected: list[tuple[int, bool]]
) -> None:
    term = configured(estimator)

    assert evaluations(Objective(small_denoiser(), term), term, frozen=small_denoiser(1)) == expected


def test_dropout_off_costs_one_more_evaluation_and_only_if_there_is_dropout() -> None:
    term = configured("symmetric", dropout="off")
    objective = Objective(small_denoiser(dropout=0.2), term)

    assert evaluations(objective, term, dropout=0.2) == [(12, True), (4, True), (8, True)]
    assert evaluations(objective, term) == [(12, True), (8, True)]


def test_masks_are_shared_for_the_variance_of_independent_ones_would_pass_for_inconsistency() -> None:
    """The exact denoiser of Gaussian data, some of its input dropped: all that is measured comes from dropout."""

    class Dropping(torch.nn.Module):
        def __init__(self, *, independent: bool = False) -> None:
            super().__init__()
            self.independent, self.calls = independent, 0

        def forward(self, x: Tensor, sigma: Tensor, conditions: Conditions) -> Tensor:
            self.calls += 1
            layer = self.calls if self.independent else 0
            kept = x if conditions.dropout is None else conditions.dropout.applied(x, layer)
            return GaussianDenoiser(0.5)(kept, sigma)

        def weight(self, sigma: Tensor) -> Tensor:
            return torch.ones_like(sigma)

    def measured(denoiser: Dropping, mode: str) -> float:
        term = configured("symmetric", dropout=mode)
        images = 0.5 * torch.randn(4096, *SHAPE, generator=torch.Generator().manual_seed(0))
        draws = drawn(term, num_images=4096, sub=4096, dropout=0.13)
        objective = Objective(denoiser, term)  # type: ignore[arg-type] # all of a denoiser that is asked for
        return float(objective(images, None, draws).consistency.mean())

    independent = measured(Dropping(independent=True), "shared")
    assert independent > 1e-2
    assert measured(Dropping(), "shared") < 0.2 * independent
    assert abs(measured(Dropping(), "off")) < 1e-3 * independent + 1e-4


def masks_of_each_evaluation(**fields: Any) -> list[Tensor]:
    """The keys of the masks with which the estimator `paper` evaluates four images, one row for each copy of them."""
    term = configured("paper", steps=3, **fields)
    seen: list[Tensor] = []
    denoiser = small_denoiser(dropout=0.2)
    denoiser.network.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[2].dropout.keys))
    Objective(denoiser, term)(*batch(), drawn(term, sub=4, dropout=0.2))
    first, *others = seen
    return [first[:4], *(copy for keys in others for copy in keys.view(-1, 4))]


def test_the_released_masks_differ_between_all_evaluations_and_others_are_shared() -> None:
    shared, independent = masks_of_each_evaluation(), masks_of_each_evaluation(dropout="independent")

    assert len(shared) == len(independent) == 7  # the first, and two chains in two steps and at their ends
    assert all(torch.equal(keys, shared[0]) for keys in shared)
    assert len(torch.cat(independent).unique()) == 7 * 4


def test_independent_masks_add_their_variance_to_the_loss_as_released() -> None:
    def measured(mode: str) -> float:
        term = configured("paper", dropout=mode)
        images = 0.5 * torch.randn(1024, *SHAPE, generator=torch.Generator().manual_seed(0))
        draws = drawn(term, num_images=1024, sub=1024, dropout=0.13)
        with torch.no_grad():
            return float(Objective(small_denoiser(dropout=0.13), term)(images, None, draws).consistency.mean())

    assert measured("independent") > 3 * measured("shared") > 0


def test_the_total_is_both_means_the_term_s_times_lambda() -> None:
    term = configured("symmetric", weight=3.0, batch_fraction=0.5)
    objective = Objective(small_denoiser(), term)

    terms = objective(*batch(), drawn(term, sub=4))

    expected = sum(terms.dsm.tolist()) / 12 + 3.0 * sum(terms.consistency.tolist()) / 4
    assert float(objective.total(terms).detach()) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("weighting", ["dsm", "none"])
def test_the_term_is_weighted_as_configured(weighting: str) -> None:
    plain = configured("symmetric", weighting="none", batch_fraction=1)
    term = configured("symmetric", weighting=weighting, batch_fraction=1)
    denoiser = small_denoiser()
    draws = drawn(term, sub=12)

    raw = Objective(denoiser, plain)(*batch(), draws).consistency
    weighted = Objective(denoiser, term)(*batch(), draws).consistency

    assert torch.allclose(weighted, raw * (denoiser.weight(draws.sigma) if weighting == "dsm" else 1))


def test_labels_are_dropped_where_the_draws_say_so() -> None:
    seen: list[Tensor] = []
    denoiser = small_denoiser()
    denoiser.network.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[2].labels))
    images, labels = batch()
    draws = drawn(configured("symmetric"), label_dropout=0.5)

    Objective(denoiser, configured("symmetric"))(images, labels, draws)

    expected = torch.where(draws.classless, NO_CLASS, labels)
    assert 0 < int(draws.classless.sum()) < 12
    assert torch.equal(seen[0], expected)
    assert torch.equal(seen[1], expected[:6].repeat(2))


def test_relative_intervals_follow_the_configured_distribution_and_the_seed() -> None:
    draws = drawn(Symmetric(estimator="symmetric"), num_images=20_000, sub=20_000)

    log_sigma, r = draws.sigma.log(), 1 - draws.sigma_next / draws.sigma
    assert float(log_sigma.mean()) == pytest.approx(-1.2, abs=0.03)
    assert float(log_sigma.std()) == pytest.approx(1.2, abs=0.03)
    assert 0 <= float(r.min()) < 0.001
    assert 0.299 < float(r.max()) <= 0.3001
    assert r.quantile(torch.tensor([0.25, 0.5, 0.75])).tolist() == pytest.approx([0.075, 0.15, 0.225], abs=0.005)
    assert abs(float(torch.corrcoef(torch.stack([log_sigma, r]))[0, 1])) < 4.5 / 20_000**0.5
    again, other = drawn(None), drawn(None, seed=1)
    assert torch.equal(again.noise, drawn(None).noise)
    assert not torch.equal(again.noise, other.noise)


def test_absolute_intervals_never_go_upwards_nor_below_the_floor() -> None:
    sigma = torch.tensor([0.001, 0.0021, 0.03, 1.0, 80.0])
    uniform = torch.tensor([0.5, 0.5, 0.99, 0.5, 0.5])

    ends = interval_end(AbsoluteInterval(kind="absolute"), sigma, uniform)

    assert torch.allclose(ends, torch.tensor([0.001, 0.002, 0.002, 0.975, 79.975]))


def test_the_released_rule_is_the_absolute_one() -> None:
    """Quantiles of r that the released CDM trains at, measured on its own code."""
    generator = torch.Generator().manual_seed(0)
    sigma = (-1.2 + 1.2 * torch.randn(200_000, generator=generator)).exp()
    ends = interval_end(AbsoluteInterval(kind="absolute"), sigma, torch.rand(200_000, generator=generator))

    quantiles = (1 - ends / sigma).quantile(torch.tensor([0.25, 0.5, 0.75, 0.95]))

    assert quantiles.tolist() == pytest.approx([0.024, 0.068, 0.17, 0.64], rel=0.05)


def test_an_interval_ends_where_it_should_at_its_bounds_and_between() -> None:
    interval = RelativeInterval(kind="relative", r_min=0.1, r_max=0.3)

    ends = interval_end(interval, torch.ones(3), torch.tensor([0.0, 0.25, 1.0]))

    assert ends.tolist() == pytest.approx([0.9, 0.85, 0.7])


def test_the_preconditioned_denoiser_starts_at_unit_weighted_loss_at_every_noise_level() -> None:
    denoiser = small_denoiser()
    for parameter in denoiser.network.parameters():
        torch.nn.init.zeros_(parameter)
    images = 0.5 * torch.randn(512, *SHAPE)

    for level in (0.01, 0.1, 1.0, 10.0):
        sigma = torch.full((512,), level)
        denoised = denoiser(images + level * torch.randn_like(images), sigma)
        loss = denoiser.weight(sigma) * (denoised - images).square().mean(dim=(1, 2, 3))
        assert float(loss.detach().mean()) == pytest.approx(1.0, abs=0.05)


def test_bfloat16_stays_inside_the_network() -> None:
    denoiser = small_denoiser()
    exact = denoiser(torch.ones(2, *SHAPE), torch.ones(2), _told(torch.tensor([0, 1])))
    denoiser.precision = torch.bfloat16

    rough = denoiser(torch.ones(2, *SHAPE), torch.ones(2), _told(torch.tensor([0, 1])))

    assert rough.dtype == torch.float32
    assert not torch.equal(rough, exact)
    assert torch.allclose(rough, exact, atol=0.05)


def test_sigma_never_reaches_infinity_or_zero() -> None:
    draws = drawn(Symmetric(estimator="symmetric"), num_images=100_000, sub=100_000)

    assert math.isfinite(float(draws.sigma.max()))
    assert float(draws.sigma_next.min()) > 0


def _told(labels: Tensor) -> Conditions:
    return Conditions(labels=labels)
