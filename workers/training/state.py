"""What training changes, and how it is before the first image."""

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Self

import torch

from workers.contract.data import DatasetManifest
from workers.contract.model import average_names, effective_sigma_data
from workers.contract.spec import TrainSpec
from workers.diffusion.denoiser import Denoiser
from workers.networks import build

AUGMENTATION_FEATURES = 9  # numbers that tell a network how its image was transformed

PRECISION = {"float32": torch.float32, "bfloat16": torch.bfloat16}
_MATRICES = ("qkv.weight", "proj.weight")


@dataclass(slots=True)
class TrainState:
    """The denoiser, its moving averages and what they are called, the optimizer, and how far they have come."""

    denoiser: Denoiser
    averages: tuple[Denoiser, ...]
    average_names: tuple[str, ...]
    optimizer: torch.optim.Adam
    images_seen: int = 0

    @classmethod
    def of(cls, denoiser: Denoiser, optimizer: torch.optim.Adam, average_names: Sequence[str] = ("ema",)) -> Self:
        """The state before the first image, of any denoiser and an Adam, or AdamW, of its parameters.

        Adam's moments are made, as a checkpoint has them, and averages that begin as the denoiser is.

        Raises:
            ValueError: the optimizer is not fused; only such a one has its moments made without a step.
        """
        if not optimizer.defaults["fused"]:
            raise ValueError("the optimizer: give it fused=True")
        _make_moments(optimizer)
        averages = tuple(deepcopy(denoiser).eval().requires_grad_(False) for _ in average_names)
        return cls(denoiser, averages, tuple(average_names), optimizer)

    @property
    def ema(self) -> Denoiser:
        """The average that samples are drawn from and that the estimator `target` regresses on: the first."""
        return self.averages[0]


def new_denoiser(spec: TrainSpec, images: DatasetManifest) -> Denoiser:
    """Build the denoiser with its initial weights, a function of the seed alone.

    Raises:
        ValueError: the network does not fit the images, with the field to change.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(spec.seed)
        network = build(
            spec.network,
            image_channels=images.channels,
            resolution=images.resolution,
            num_classes=images.num_classes,
            augmentation_features=augmentation_features(spec),
        )
    return Denoiser(
        network,
        preconditioning=spec.preconditioning,
        sigma_data=effective_sigma_data(spec.preconditioning, images.sigma_data),
        precision=PRECISION[spec.compute.precision],
    )


def new_state(spec: TrainSpec, images: DatasetManifest, device: torch.device) -> TrainState:
    """The state before the first image, Adam's moments included."""
    denoiser = new_denoiser(spec, images).to(device)
    if device.type == "cuda":
        lay_out_channels_last(denoiser.network)
    adam = spec.optimizer
    optimizer = torch.optim.Adam(
        denoiser.parameters(), adam.learning_rate, betas=(adam.beta1, adam.beta2), eps=adam.epsilon, fused=True
    )
    return TrainState.of(denoiser, optimizer, average_names(spec.ema))


def lay_out_channels_last(network: torch.nn.Module) -> None:
    """Give weights the memory format that convolutions are fastest in on a GPU.

    Attention uses its 1x1 kernels as matrices. Their gradients have a matrix's strides, and DDP warns where a weight's
    are others; those of kernels that convolutions use have the strides of this format.
    """
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload] # PyTorch declares it for tensors only
    for name, weight in network.named_parameters():
        if name.endswith(_MATRICES):
            weight.data = weight.data.flatten().view(weight.shape)


def _make_moments(optimizer: torch.optim.Adam) -> None:
    """Have Adam make what its first step would, by a step that it skips: all are 0, and weights stay."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    for parameter in parameters:
        parameter.grad = torch.zeros_like(parameter)
    optimizer.found_inf = torch.ones((), device=parameters[0].device)  # type: ignore[attr-defined] # see Trainer.step
    optimizer.step()
    del optimizer.found_inf  # type: ignore[attr-defined] # the next step is taken
    optimizer.zero_grad(set_to_none=True)


def num_parameters(network: torch.nn.Module) -> int:
    """How many numbers training changes."""
    return sum(parameter.numel() for parameter in network.parameters())


def augmentation_features(spec: TrainSpec) -> int:
    """How many numbers about its augmentation the network is told."""
    return AUGMENTATION_FEATURES if spec.augmentation else 0
