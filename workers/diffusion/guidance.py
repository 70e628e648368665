"""Denoisers made of denoisers: what they draw is steered, whatever the sampler."""

from dataclasses import replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from workers.diffusion.conditions import NO_CLASS, UNCONDITIONAL, Conditions
from workers.diffusion.denoiser import Denoise


def classifier_free(denoise: Denoise, weight: float) -> Denoise:
    """D_none + weight (D_class - D_none): further into the class for weight > 1 (Ho & Salimans 2022, arXiv 2207.12598).

    Both are evaluated as one batch of twice the size. 1 is the denoiser itself, at its own cost; 0 ignores the class.
    The network must have trained without the class at times (`objective.label_dropout`).

    Raises:
        TypeError: on evaluation, without labels.
    """
    if weight == 1:
        return denoise

    def guided(
        x: Float[Tensor, "batch *shape"], sigma: Float[Tensor, " batch"], conditions: Conditions = UNCONDITIONAL
    ) -> Float[Tensor, "batch *shape"]:
        if conditions.labels is None:
            raise TypeError("classifier-free guidance needs the labels of what is drawn")
        labels = torch.cat([conditions.labels, torch.full_like(conditions.labels, NO_CLASS)])
        both = replace(conditions.repeated(2), labels=labels)
        of_class, of_none = denoise(torch.cat([x, x]), torch.cat([sigma, sigma]), both).chunk(2)
        return torch.lerp(of_none, of_class, weight)

    return guided


def autoguided(denoise: Denoise, guide: Denoise, weight: float) -> Denoise:
    """D_guide + weight (D - D_guide): away from the errors of a worse denoiser (Karras et al. 2024, arXiv 2406.02507).

    The guide is told the same; it is a smaller network, or an earlier state or wider average of this one, of the same
    data. Where both agree nothing changes. 1 is the denoiser itself.
    """
    if weight == 1:
        return denoise

    def guided(
        x: Float[Tensor, "batch *shape"], sigma: Float[Tensor, " batch"], conditions: Conditions = UNCONDITIONAL
    ) -> Float[Tensor, "batch *shape"]:
        return torch.lerp(guide(x, sigma, conditions), denoise(x, sigma, conditions), weight)

    return guided


def inpainting(denoise: Denoise, known: Float[Tensor, "..."], mask: Bool[Tensor, "..."]) -> Denoise:
    """Predict `known` where `mask` is true, and there every sampler ends on exactly these pixels.

    Both are broadcast to the images. On the way the known pixels carry noise of the current level, and the others are
    predicted from these noisy ones: they move towards what belongs to the known pixels, and with any number of steps
    fall short of a draw from the exact conditional distribution. For correlated Gaussian pixels `ancestral` gets closer
    than the deterministic samplers, which keep one noise throughout.
    """

    def painted(
        x: Float[Tensor, "batch *shape"], sigma: Float[Tensor, " batch"], conditions: Conditions = UNCONDITIONAL
    ) -> Float[Tensor, "batch *shape"]:
        return torch.where(mask, known, denoise(x, sigma, conditions))

    return painted
