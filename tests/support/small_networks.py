"""Networks of every kind, small, and with no layer of zeros, which would hide every difference."""

import torch
from torch import Tensor

from workers.contract.networks import ADM, EDM2, MLP, DDPMpp, NCSNpp
from workers.diffusion.conditions import Conditions, draw_dropout
from workers.networks import Network, build

KINDS = ["ddpmpp", "ncsnpp", "adm", "edm2", "mlp"]
UNETS = KINDS[:4]
PUBLISHED = KINDS[:3]
CONFIGS = {"ddpmpp": DDPMpp, "ncsnpp": NCSNpp, "adm": ADM, "edm2": EDM2, "mlp": MLP}
TOLD_OF_AUGMENTATION = [kind for kind in KINDS if CONFIGS[kind].takes_augmentation]
NUM_CLASSES = 3
SIZE = 8
SHAPE = (2, SIZE, SIZE)


def config(kind: str, **changes: object) -> DDPMpp | NCSNpp | ADM | EDM2 | MLP:
    small = {"channels": 16, "channel_multipliers": (1, 2), "blocks_per_level": 1, "attention_resolutions": (4,)}
    return CONFIGS[kind].model_validate({"kind": kind, **({} if kind == "mlp" else small), **changes})


def small_network(
    kind: str, *, seed: int = 0, image_channels: int = SHAPE[0], num_classes: int = NUM_CLASSES, **changes: object
) -> Network:
    """With all parameters drawn anew: output layers of zeros would hide every difference."""
    torch.manual_seed(seed)
    network = build(
        config(kind, **{"class_conditional": True, **changes}),
        image_channels=image_channels,
        resolution=SIZE,
        num_classes=num_classes,
        augmentation_features=9 if kind in TOLD_OF_AUGMENTATION else 0,
    )
    return randomised(network)


def randomised(network: Network) -> Network:
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            normal = torch.randn_like(parameter)
            if parameter.ndim > 1:
                parameter.copy_(normal / parameter[0].numel() ** 0.5)
            else:
                parameter.copy_(0.2 * normal + (1.0 if "norm" in name or "gain" in name else 0.0))
    return network


def inputs(batch: int = 3) -> tuple[Tensor, Tensor]:
    return torch.randn(batch, *SHAPE), torch.randn(batch)


def told(network: Network, *, batch: int, probability: float) -> Conditions:
    generator = torch.Generator().manual_seed(0)
    dropout = draw_dropout(generator, num_images=batch, probability=probability, largest_layer=network.dropout_elements)
    return Conditions(dropout=dropout)
