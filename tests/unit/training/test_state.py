"""The state of a training loop of one's own."""

import pytest
import torch

from workers.contract.model import EDM
from workers.contract.networks import MLP
from workers.diffusion.denoiser import Denoiser
from workers.networks import build
from workers.training.snapshot import tensors_of
from workers.training.state import TrainState


def denoiser() -> Denoiser:
    network = build(MLP(kind="mlp", width=16), image_channels=1, resolution=4, num_classes=0, augmentation_features=0)
    return Denoiser(network, preconditioning=EDM(kind="edm"), sigma_data=0.5)


@pytest.mark.parametrize("kind", [torch.optim.Adam, torch.optim.AdamW])
def test_it_has_the_moments_and_averages_of_a_checkpoint_and_its_first_step_counts(
    kind: type[torch.optim.Adam],
) -> None:
    network = denoiser()
    before = [parameter.clone() for parameter in network.parameters()]

    state = TrainState.of(network, kind(network.parameters(), lr=0.1, fused=True), ("one", "two"))

    assert tensors_of(state).keys() == {
        "network.safetensors",
        "optimizer.safetensors",
        "one.safetensors",
        "two.safetensors",
    }
    assert all(not moment.any() for moment in tensors_of(state)["optimizer.safetensors"].values())
    assert all(map(torch.equal, before, network.parameters()))
    for parameter in network.parameters():
        parameter.grad = torch.ones_like(parameter)
    state.optimizer.step()
    assert not any(map(torch.equal, before, network.parameters()))


def test_an_optimizer_that_is_not_fused_is_refused() -> None:
    network = denoiser()

    with pytest.raises(ValueError, match="the optimizer: give it fused=True"):
        TrainState.of(network, torch.optim.Adam(network.parameters(), lr=0.1))
