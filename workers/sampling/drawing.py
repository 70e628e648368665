"""Drawing the images of given seeds from a trained network."""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Int64, UInt8
from torch import Tensor

from workers.contract.document import SpecError
from workers.contract.model import Sampler
from workers.contract.sampling import Drawing, Subject
from workers.diffusion.conditions import UNCONDITIONAL, Conditions
from workers.diffusion.denoiser import Denoise, Denoiser
from workers.diffusion.guidance import inpainting
from workers.diffusion.latents import normal_batch
from workers.diffusion.samplers import sample
from workers.pictures import to_uint8
from workers.sampling.known_pixels import KnownPixels
from workers.sampling.source import Source

_DOMAIN = 0x0D2A3  # keeps these draws apart from other uses of the same seed
_SHUFFLE = 0x1ABE1  # image sets may be in the order of their classes


@dataclass(frozen=True, slots=True)
class SeededSampler:
    """What images are drawn with. An image is a function of its seed, whichever others are drawn beside it."""

    denoiser: Denoiser
    sampler: Sampler
    shape: tuple[int, int, int]
    classes: tuple[int, ...] | None
    device: torch.device
    known: KnownPixels | None = None
    cycle: Int64[Tensor, " images"] | None = None  # labels that seeds take in turn; None: `classes`, evenly

    @classmethod
    def of(
        cls,
        drawing: Drawing,
        source: Source,
        denoiser: Denoiser,
        device: torch.device,
        *,
        known: KnownPixels | None = None,
    ) -> "SeededSampler":
        all_classes = tuple(range(source.subject.num_classes or 0))
        classes = (drawing.classes or all_classes) if all_classes else None
        return cls(denoiser, drawing.sampler_for(source.subject.sampler), source.shape, classes, device, known)

    def like(self, labels: Int64[Tensor, " images"]) -> "SeededSampler":
        """One that draws classes as often as these images have them: seed s is of image permutation[s % images]."""
        order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(_SHUFFLE))
        return replace(self, cycle=labels[order])

    def draw(self, seeds: range) -> UInt8[Tensor, "batch channels height width"]:
        """The images of these seeds, on the CPU."""

        def noise(number: int) -> Tensor:
            """An image's latents, number 0, and the noise of its sampling steps, from number 1 on."""
            return normal_batch([(seed, _DOMAIN, number) for seed in seeds], self.shape, self.device)

        denoise: Denoise = self.denoiser
        if self.known:
            denoise = inpainting(denoise, self.known.image, self.known.mask)
        drawn = sample(
            denoise, noise(0), self.sampler, conditions=self.conditions(seeds), noise=lambda step: noise(step + 1)
        )
        return to_uint8(drawn).cpu()

    def labels(self, seeds: range) -> Int64[Tensor, " batch"] | None:
        """The classes of the images of these seeds; None if they have none."""
        if self.classes is None:
            return None
        if self.cycle is not None:
            return self.cycle[[seed % len(self.cycle) for seed in seeds]]
        return torch.tensor([self.classes[seed % len(self.classes)] for seed in seeds])

    def conditions(self, seeds: range) -> Conditions:
        """What the network is told of the images of these seeds."""
        labels = self.labels(seeds)
        return UNCONDITIONAL if labels is None else Conditions(labels=labels.to(self.device))


def check_drawing(drawing: Drawing, subject: Subject) -> None:
    """See that this network can draw what is asked for.

    Raises:
        SpecError: naming every field that it cannot.
    """
    if problems := drawing.problems_with(subject):
        raise SpecError("; ".join(map(str, problems)))
