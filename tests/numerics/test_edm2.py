"""EDM2's network: as large as the published one, and what passes through it keeps its magnitude."""

import pytest
import torch
from torch import Tensor, nn

from tests.support.small_networks import NUM_CLASSES, config, inputs, small_network
from workers.contract.networks import EDM2
from workers.diffusion.conditions import UNCONDITIONAL, Conditions
from workers.networks import after_step, build
from workers.networks import magnitude as magnitudes
from workers.networks.edm2 import MagnitudePreservingUNet


@pytest.mark.parametrize(("channels", "millions"), [(64, 31.3), (128, 124.7), (192, 280.2)])
def test_edm2_is_as_large_as_the_published_one(channels: int, millions: float) -> None:
    with torch.device("meta"):
        network = build(
            EDM2(kind="edm2", channels=channels, class_conditional=True),
            image_channels=3,
            resolution=64,
            num_classes=1000,
        )

    assert round(sum(parameter.numel() for parameter in network.parameters()) / 1e6, 1) == millions


def test_the_parts_of_edm2_keep_the_magnitude_of_normal_numbers() -> None:
    torch.manual_seed(0)
    a, b = torch.randn(64, 30, 20, 20), torch.randn(64, 10, 20, 20)

    def magnitude(x: Tensor) -> float:
        return float(x.detach().square().mean().sqrt())

    joined = magnitudes.concatenated(a, b)
    for kept in (
        magnitudes.silu(a),
        magnitudes.weighted_sum(a, torch.randn_like(a), 0.3),
        magnitudes.pixel_norm(3 * a),
        magnitudes.UnitLayer(30, 512, 1)(a),
        magnitudes.FourierFeatures(4096)(torch.randn(64)),
        joined,
    ):
        assert magnitude(kept) == pytest.approx(1, rel=0.02)
    assert joined[:, :30].square().sum() == pytest.approx(float(joined[:, 30:].square().sum()), rel=0.02)


def test_edm2_keeps_the_magnitude_of_what_passes_through() -> None:
    torch.manual_seed(0)
    edm2 = config("edm2", channels=64, channel_multipliers=(1, 2, 2), blocks_per_level=2, class_conditional=True)
    network = build(edm2, image_channels=3, resolution=16, num_classes=NUM_CLASSES)
    assert isinstance(network, MagnitudePreservingUNet)
    noted = {}

    def note(module: nn.Module, _: object, output: Tensor) -> None:
        noted[module] = float(output.square().mean().sqrt())

    for block in [network.first, *network.encoder.values(), *network.decoder.values(), network.embed_noise]:
        block.register_forward_hook(note)

    with torch.no_grad():
        network(torch.randn(8, 3, 16, 16), torch.randn(8), Conditions(torch.randint(NUM_CLASSES, (8,))))

    assert len(noted) == 1 + 8 + 13 + 1
    assert all(0.8 < magnitude < 1.25 for magnitude in noted.values()), sorted(noted.values())


def test_forced_normalisation_of_edm2_changes_weights_and_no_output() -> None:
    network = small_network("edm2")
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.ndim > 1:
                parameter.mul_(3)
    x, c_noise = inputs()
    before = network(x, c_noise, UNCONDITIONAL)

    after_step(network)

    weights = [parameter for parameter in network.parameters() if parameter.ndim > 1]
    for weight in weights:
        norms = weight.flatten(1).norm(dim=1) / weight[0].numel() ** 0.5
        assert torch.allclose(norms, torch.ones(len(weight)), atol=1e-3)
    assert torch.allclose(network(x, c_noise, UNCONDITIONAL), before, rtol=1e-3, atol=1e-4)


def test_other_networks_are_left_alone_after_a_step() -> None:
    network = small_network("ddpmpp")
    before = {name: parameter.clone() for name, parameter in network.named_parameters()}

    after_step(network)

    assert all(torch.equal(parameter, before[name]) for name, parameter in network.named_parameters())
