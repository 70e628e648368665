"""The loss of a step: its parts, its randomness, and how workers share it."""

import math

import pytest
import torch

from workers.contract.model import Consistency, Noise, UNet
from workers.diffusion.denoiser import Denoiser, edm_weight
from workers.diffusion.objective import Draws, Objective, Terms, draw
from workers.networks import build

SHAPE = (1, 8, 8)


def small_denoiser(seed: int = 0) -> Denoiser:
    torch.manual_seed(seed)
    config = UNet(kind="unet", channels=8, channel_multipliers=(1, 2), blocks_per_level=1, class_conditional=True)
    network = build(config, image_channels=1, resolution=8, num_classes=3)
    with torch.no_grad():
        for parameter in network.parameters():  # nearly-zero output layers would hide every difference
            parameter.add_(0.05 * torch.randn_like(parameter))
    return Denoiser(network, sigma_data=0.5)


def drawn(term: Consistency | None, *, num_images: int = 12, sub: int = 6, seed: int = 0) -> Draws:
    generator = torch.Generator().manual_seed(seed)
    return draw(generator, num_images=num_images, shape=SHAPE, noise=Noise(), term=term, sub=sub if term else 0)


@pytest.mark.parametrize("estimator", ["symmetric", "target"])
def test_shares_of_all_workers_average_to_the_whole_batch(estimator: str) -> None:
    term = Consistency.model_validate({"estimator": estimator, "batch_fraction": 0.5})
    objective, frozen = Objective(small_denoiser(), term), small_denoiser(1)
    images, labels = torch.randn(12, *SHAPE), torch.randint(3, (12,))
    draws = drawn(term)

    whole = objective.total(objective(images, labels, draws, frozen)).detach()
    parts = [
        objective.total(objective(images[rank::3], labels[rank::3], draws.share(rank, 3), frozen)) for rank in range(3)
    ]

    assert float(torch.stack(parts).detach().mean()) == pytest.approx(float(whole), rel=1e-5)


def test_without_the_term_the_loss_is_plain_denoising_score_matching() -> None:
    denoiser = small_denoiser()
    objective = Objective(denoiser, None)
    images, labels, draws = torch.randn(12, *SHAPE), torch.randint(3, (12,)), drawn(None)

    terms: Terms = objective(images, labels, draws)

    denoised = denoiser(images + draws.sigma.view(-1, 1, 1, 1) * draws.noise, draws.sigma, labels)
    error = (denoised - images).square().mean(dim=(1, 2, 3))
    assert torch.allclose(terms.dsm, edm_weight(draws.sigma, 0.5) * error)
    assert terms.consistency.numel() == 0
    assert torch.equal(objective.total(terms), terms.dsm.mean())


def test_the_consistency_term_costs_two_more_evaluations_of_its_part_of_the_batch() -> None:
    sizes: list[int] = []
    denoiser = small_denoiser()
    denoiser.network.register_forward_pre_hook(lambda module, inputs: sizes.append(len(inputs[0])))
    term = Consistency(estimator="symmetric")

    Objective(denoiser, term)(torch.randn(12, *SHAPE), None, drawn(term, sub=3))

    assert sizes == [12, 6]


def test_the_target_estimator_says_what_it_lacks() -> None:
    term = Consistency(estimator="target")

    with pytest.raises(TypeError, match="frozen"):
        Objective(small_denoiser(), term)(torch.randn(12, *SHAPE), None, drawn(term))


def test_draws_follow_the_configured_distributions_and_the_seed() -> None:
    term = Consistency()
    draws = drawn(term, num_images=20_000, sub=20_000)

    log_sigma, r = draws.sigma.log(), 1 - draws.sigma_next / draws.sigma
    assert float(log_sigma.mean()) == pytest.approx(-1.2, abs=0.03)
    assert float(log_sigma.std()) == pytest.approx(1.2, abs=0.03)
    assert 0 <= float(r.min()) < 0.001
    assert 0.299 < float(r.max()) <= 0.3001
    again, other = drawn(term, seed=0), drawn(term, seed=1)
    assert torch.equal(again.noise, drawn(term, seed=0).noise)
    assert not torch.equal(again.noise, other.noise)


def test_the_preconditioned_denoiser_starts_at_unit_weighted_loss_at_every_noise_level() -> None:
    config = UNet(kind="unet", channels=8, channel_multipliers=(1, 2), blocks_per_level=1)
    denoiser = Denoiser(build(config, image_channels=1, resolution=8, num_classes=0), sigma_data=0.5)
    images = 0.5 * torch.randn(512, *SHAPE)

    for level in (0.01, 0.1, 1.0, 10.0):
        sigma = torch.full((512,), level)
        denoised = denoiser(images + level * torch.randn_like(images), sigma, None)
        loss = edm_weight(sigma, 0.5) * (denoised - images).square().mean(dim=(1, 2, 3))
        assert float(loss.detach().mean()) == pytest.approx(1.0, abs=0.05)


def test_bfloat16_stays_inside_the_network() -> None:
    denoiser = small_denoiser()
    exact = denoiser(torch.ones(2, *SHAPE), torch.ones(2), torch.tensor([0, 1]))
    denoiser.precision = torch.bfloat16

    rough = denoiser(torch.ones(2, *SHAPE), torch.ones(2), torch.tensor([0, 1]))

    assert rough.dtype == torch.float32
    assert not torch.equal(rough, exact)
    assert torch.allclose(rough, exact, atol=0.05)


def test_sigma_never_reaches_infinity_or_zero() -> None:
    draws = drawn(Consistency(), num_images=100_000, sub=100_000)

    assert math.isfinite(float(draws.sigma.max()))
    assert float(draws.sigma_next.min()) > 0
