"""The loss of one optimizer step: denoising score matching, and the consistency term on a part of the batch."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import assert_never

import torch
from jaxtyping import Bool, Float, Int
from torch import Generator, Tensor, nn

from workers.contract.consistency import AbsoluteInterval, Consistency, RelativeInterval
from workers.contract.model import Preconditioning
from workers.diffusion.conditions import NO_CLASS, Conditions, DropoutNoise, draw_dropout
from workers.diffusion.consistency import Start, inconsistency, num_chains
from workers.diffusion.denoiser import Denoise, Denoiser, mean_of_elements, per_image
from workers.diffusion.preconditioning import draw_sigma


@dataclass(frozen=True, slots=True)
class Draws:
    """All randomness of one step. The first `sub` images of the batch carry the consistency term."""

    sigma: Float[Tensor, " batch"]
    noise: Float[Tensor, "batch *shape"]
    classless: Bool[Tensor, " batch"]
    dropout: DropoutNoise | None
    sigma_next: Float[Tensor, " sub"]
    step_noises: Float[Tensor, "steps chains sub *shape"]

    def share(self, number: int, of: int) -> "Draws":
        """What one of several passes computes on: every `of`-th image, so all have an equal part of `sub`."""
        mine = slice(number, None, of)
        return Draws(
            self.sigma[mine],
            self.noise[mine],
            self.classless[mine],
            self.dropout and self.dropout.part(mine),
            self.sigma_next[mine],
            self.step_noises[:, :, mine],
        )


@dataclass(frozen=True, slots=True)
class Randomness:
    """What is drawn for each step: from which distributions, and of which sizes."""

    shape: tuple[int, ...]
    preconditioning: Preconditioning
    term: Consistency | None
    label_dropout: float = 0.0
    dropout: float = 0.0
    dropout_elements: int = 0  # most elements of an image at a dropout layer

    def draw(self, generator: Generator, *, num_images: int, sub: int) -> Draws:
        """Draw the randomness of a whole batch, on the generator's device."""

        def normal(*size: int) -> Tensor:
            return torch.randn(size, generator=generator, device=generator.device)

        def uniform(size: int) -> Tensor:
            return torch.rand(size, generator=generator, device=generator.device)

        sigma = draw_sigma(self.preconditioning, generator, num_images)
        image_noise = normal(num_images, *self.shape)
        classless = uniform(num_images) < self.label_dropout
        dropout = draw_dropout(
            generator, num_images=num_images, probability=self.dropout, largest_layer=self.dropout_elements
        )
        if self.term is None or not sub:
            return Draws(sigma, image_noise, classless, dropout, sigma[:0], normal(1, 1, 0, *self.shape))
        sigma_next = interval_end(self.term.interval, sigma[:sub], uniform(sub))
        step_noises = normal(self.term.steps, num_chains(self.term), sub, *self.shape)
        return Draws(sigma, image_noise, classless, dropout, sigma_next, step_noises)


def interval_end(
    interval: RelativeInterval | AbsoluteInterval, sigma: Float[Tensor, " sub"], uniform: Float[Tensor, " sub"]
) -> Float[Tensor, " sub"]:
    """sigma' <= sigma for each image; `uniform` is from [0, 1)."""
    match interval:
        case RelativeInterval(r_min=low, r_max=high):
            return sigma * (1 - (low + (high - low) * uniform))
        case AbsoluteInterval(length_min=low, length_max=high, sigma_floor=floor):
            return torch.minimum(sigma, (sigma - (low + (high - low) * uniform)).clamp(min=floor))
        case _:
            assert_never(interval)


@dataclass(frozen=True, slots=True)
class Terms:
    """Both losses of each image, weighted as configured, mean over its elements, before lambda."""

    sigma: Float[Tensor, " batch"]
    dsm: Float[Tensor, " batch"]
    consistency: Float[Tensor, " sub"]

    def detached(self) -> "Terms":
        return Terms(self.sigma, self.dsm.detach(), self.consistency.detach())

    @classmethod
    def joined(cls, parts: Sequence["Terms"]) -> "Terms":
        """Those of several passes as of one batch: here, too, the images with the consistency term come first."""
        subs = [len(part.consistency) for part in parts]

        def joint(values: list[Tensor]) -> Tensor:
            each = list(zip(values, subs, strict=True))
            return torch.cat([value[:sub] for value, sub in each] + [value[sub:] for value, sub in each])

        names = ("sigma", "dsm", "consistency")
        return cls(*(joint([getattr(part, name) for part in parts]) for name in names))


class Objective(nn.Module):
    """All evaluations of a training step in one forward pass, which is what DistributedDataParallel wants to wrap."""

    def __init__(self, denoiser: Denoiser, term: Consistency | None) -> None:
        super().__init__()
        self.denoiser = denoiser
        self.term = term

    def forward(
        self,
        images: Float[Tensor, "batch *shape"],
        labels: Int[Tensor, " batch"] | None,
        draws: Draws,
        *,
        augmentation: Float[Tensor, "batch features"] | None = None,
        frozen: Denoise | None = None,
    ) -> Terms:
        """Evaluate both losses; `augmentation` tells how the images were transformed, `frozen` is the EMA denoiser."""
        labels = None if labels is None else labels.masked_fill(draws.classless, NO_CLASS)
        conditions = Conditions(labels, augmentation, draws.dropout)
        x = images + per_image(draws.sigma, images) * draws.noise
        denoised = self.denoiser(x, draws.sigma, conditions)
        weight = self.denoiser.weight(draws.sigma)
        dsm = weight * mean_of_elements((denoised - images).square())
        if self.term is None or not len(draws.sigma_next):
            return Terms(draws.sigma, dsm, dsm.new_zeros(0))
        start = self._start(self.term, x, denoised, draws, conditions)
        gap = inconsistency(self.term, self.denoiser, start, draws.step_noises, frozen)
        return Terms(draws.sigma, dsm, gap * weight[: len(gap)] if self.term.weighting == "dsm" else gap)

    def _start(self, term: Consistency, x: Tensor, denoised: Tensor, draws: Draws, conditions: Conditions) -> Start:
        """The images with the term. Unless its evaluations have the same masks, the variance of masks counts, too."""
        part = slice(len(draws.sigma_next))
        x, denoised, sigma, conditions = x[part], denoised[part], draws.sigma[part], conditions.part(part)
        if conditions.dropout and term.dropout == "off":
            conditions = conditions.without_dropout()
            denoised = self.denoiser(x, sigma, conditions)
        independent = term.dropout == "independent"
        return Start(x, denoised, sigma, draws.sigma_next, conditions, independent_masks=independent)

    def total(self, terms: Terms) -> Float[Tensor, ""]:
        """DSM + lambda consistency, each the mean over its own images: lambda means the same at any fraction."""
        if self.term is None or not len(terms.consistency):
            return terms.dsm.mean()
        return terms.dsm.mean() + self.term.weight * terms.consistency.mean()
