"""Preconditionings and noise distributions, against the identities that make them what they are."""

import math

import pytest
import torch
from torch import Tensor

from workers.contract.model import EDM, VE, VP, Sampler, trained_range, untrained_problems
from workers.diffusion.conditions import Conditions
from workers.diffusion.denoiser import Denoiser
from workers.diffusion.preconditioning import draw_sigma, loss_weight, scalings, vp_sigma, vp_time

SIGMA_DATA = 0.5
SIGMA = torch.logspace(-3, 2, 50, dtype=torch.float64)
EDM_, VP_, VE_ = EDM(kind="edm"), VP(kind="vp"), VE(kind="ve")


def test_edm_keeps_the_network_s_input_and_target_at_unit_variance_and_its_error_least_amplified() -> None:
    c = scalings(EDM_, SIGMA_DATA, SIGMA)

    input_variance = c.in_**2 * (SIGMA_DATA**2 + SIGMA**2)
    # The target is (x_0 - skip (x_0 + sigma n)) / out.
    target_variance = ((1 - c.skip) ** 2 * SIGMA_DATA**2 + c.skip**2 * SIGMA**2) / c.out**2

    assert torch.allclose(input_variance, torch.ones_like(SIGMA))
    assert torch.allclose(target_variance, torch.ones_like(SIGMA))
    for other in (0.9, 1.1):  # c_skip minimises |c_out|
        amplified = (1 - other * c.skip) ** 2 * SIGMA_DATA**2 + (other * c.skip) ** 2 * SIGMA**2
        assert bool((amplified >= c.out**2).all())


@pytest.mark.parametrize("config", [VP_, VE_], ids=["vp", "ve"])
def test_vp_and_ve_predict_the_noise(config: VP | VE) -> None:
    """skip = 1 and out = -+ sigma: a network that knows the noise n exactly denoises exactly."""
    c = scalings(config, SIGMA_DATA, SIGMA)
    clean, noise = torch.randn(2, len(SIGMA), dtype=torch.float64)
    x = clean + SIGMA * noise

    denoised = c.skip * x + c.out * (noise if config.kind == "vp" else -noise)

    assert torch.allclose(denoised, clean)


def test_vp_scales_its_input_to_unit_variance_for_unit_data() -> None:
    c = scalings(VP_, 1.0, SIGMA)

    assert torch.allclose(c.in_**2 * (1 + SIGMA**2), torch.ones_like(SIGMA))


@pytest.mark.parametrize(
    ("config", "sigma", "told"),
    [
        (EDM_, math.e, 0.25),
        (EDM_, math.e**-4, -1.0),
        (VP_, float(vp_sigma(VP_, torch.tensor(0.1, dtype=torch.float64))), 99.9),
        (VP_, float(vp_sigma(VP_, torch.tensor(1.0, dtype=torch.float64))), 999.0),
        (VE_, 2.0, 0.0),
        (VE_, 2 * math.e, 1.0),
    ],
)
def test_the_network_is_told_the_noise_level_as_in_table_1(config: EDM | VP | VE, sigma: float, told: float) -> None:
    c = scalings(config, SIGMA_DATA, torch.tensor([sigma], dtype=torch.float64))

    assert float(c.noise) == pytest.approx(told, abs=1e-9)


class Constant(torch.nn.Module):
    """A network that answers 3 whatever it is given, and notes what that was."""

    def __init__(self) -> None:
        super().__init__()
        self.given: list[tuple[Tensor, Tensor]] = []

    def forward(self, x: Tensor, noise: Tensor, conditions: Conditions) -> Tensor:
        self.given.append((x, noise))
        return torch.full_like(x, 3.0)


@pytest.mark.parametrize("config", [EDM_, VP_, VE_], ids=["edm", "vp", "ve"])
def test_the_denoiser_is_its_network_in_all_four_scalings(config: EDM | VP | VE) -> None:
    network, sigma = Constant(), torch.tensor([0.05, 4.0])
    x = torch.randn(2, 1, 4, 4)
    c = scalings(config, SIGMA_DATA, sigma)
    skip, out, in_ = (factor.view(2, 1, 1, 1) for factor in (c.skip, c.out, c.in_))

    denoised = Denoiser(network, preconditioning=config, sigma_data=SIGMA_DATA)(x, sigma)

    ((given, told),) = network.given
    assert torch.allclose(given, in_ * x)
    assert torch.equal(told, c.noise)
    assert torch.allclose(denoised, skip * x + out * 3)


def test_vp_time_inverts_vp_sigma() -> None:
    time = torch.linspace(1e-5, 1, 100, dtype=torch.float64)

    assert torch.allclose(vp_time(VP_, vp_sigma(VP_, time)), time)
    assert float(vp_sigma(VP_, torch.ones(1, dtype=torch.float64))) == pytest.approx(
        math.sqrt(math.exp(0.5 * 19.9 + 0.1) - 1)
    )


@pytest.mark.parametrize("config", [EDM_, VP_, VE_], ids=["edm", "vp", "ve"])
def test_no_noise_level_is_drawn_beyond_the_trained_range_where_the_default_sampler_stays(
    config: EDM | VP | VE,
) -> None:
    low, high = trained_range(config)

    sigma = draw_sigma(config, torch.Generator().manual_seed(0), 100_000)

    assert low * (1 - 1e-5) <= float(sigma.min())
    assert float(sigma.max()) <= high * (1 + 1e-5)
    assert untrained_problems(Sampler(sigma_min=0.02), config) == []
    if config.kind != "ve":  # as published, from 0.02 on
        assert untrained_problems(Sampler(), config) == []


def test_the_range_of_vp_is_that_of_its_times() -> None:
    ends = vp_sigma(VP_, torch.tensor([1e-5, 1.0], dtype=torch.float64))

    assert trained_range(VP_) == pytest.approx(tuple(ends.tolist()))


def test_a_range_beyond_all_numbers_has_no_end() -> None:
    assert trained_range(VP(kind="vp", beta_d=2000.0))[1] == math.inf


@pytest.mark.parametrize("config", [EDM_, VP_, VE_], ids=["edm", "vp", "ve"])
def test_the_weight_counts_the_network_s_own_error_alike_at_every_level(config: EDM | VP | VE) -> None:
    weight = loss_weight(config, SIGMA_DATA, SIGMA)

    assert torch.allclose(weight * scalings(config, SIGMA_DATA, SIGMA).out ** 2, torch.ones_like(SIGMA))
    if config.kind == "edm":
        assert torch.allclose(weight, (SIGMA**2 + 0.25) / (SIGMA * 0.5) ** 2)


def test_noise_levels_follow_their_distributions() -> None:
    def drawn(config: EDM | VP | VE) -> torch.Tensor:
        return draw_sigma(config, torch.Generator().manual_seed(0), 100_000)

    edm, vp, ve = (drawn(config) for config in (EDM_, VP_, VE_))

    assert edm.log().quantile(torch.tensor([0.05, 0.5, 0.95])).exp().tolist() == pytest.approx(
        [0.042, 0.301, 2.17], rel=0.03
    )
    time = vp_time(VP_, vp.double())
    assert [float(time.min()), float(time.mean()), float(time.max())] == pytest.approx([0, 0.5, 1], abs=5e-3)
    place = (ve.log() - math.log(0.02)) / math.log(100 / 0.02)
    assert [float(place.min()), float(place.mean()), float(place.max())] == pytest.approx([0, 0.5, 1], abs=5e-3)
