"""What an evaluation consists of: pieces that any worker can make, and what they add up to."""

from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import dataclass, replace
from functools import cached_property, partial

import numpy as np
import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor

from workers.contract.evaluation import TIMELINE_IMAGES, EvaluateSpec, Labels
from workers.contract.keys import JobKeys, dataset_features
from workers.contract.model import trained_range
from workers.data import ImageSet
from workers.diffusion.conditions import UNCONDITIONAL, Conditions
from workers.diffusion.denoiser import Denoiser
from workers.diffusion.samplers import evaluations
from workers.evaluation.drift import (
    LEVELS,
    Noises,
    denoising_loss,
    drift_at_images,
    drift_on_own_paths,
    evaluations_at_images,
    evaluations_on_own_paths,
    noises_of,
)
from workers.evaluation.features import Extractor, whole_float32
from workers.evaluation.measures import spread
from workers.pictures import from_uint8
from workers.sampling.drawing import SeededSampler
from workers.sampling.pieces import Piece, Tensors, cut, read_piece, read_pieces
from workers.storage import ObjectStore

_TIMELINE_SEEDS = range(TIMELINE_IMAGES)  # whatever is evaluated, so that pictures of all evaluations go together
_REFERENCE_IMAGES = 500  # of a piece; fixed, since other evaluations find them again
LOSS, GAP, OWN_GAP = "loss", "gap_at_images", "gap_on_own_paths"
HELD_OUT_LOSS, HELD_OUT_GAP = "loss_at_held_out", "gap_at_held_out"


@dataclass(frozen=True)
class EvaluationPlan:
    """One evaluation. `images` are those that the network learned from, if there are any, `held_out` others.

    What it consists of is put together once: labels of all images are read for it.
    """

    spec: EvaluateSpec
    keys: JobKeys
    seeded_sampler: SeededSampler
    images: ImageSet | None
    held_out: ImageSet | None
    extractor: Extractor
    store: ObjectStore

    @property
    def pieces(self) -> list[Piece]:
        drawn = (piece for block in self.blocks for piece in block)
        return [*self.reference, *drawn, *self.timeline, *self.drift, *self.held_out_drift]

    @cached_property
    def reference(self) -> list[Piece]:
        """Features of all training images, which stay with the image set; empty if statistics were given."""
        if self.spec.reference or self.images is None:
            return []
        folder = dataset_features(self.images.manifest.digest, self.extractor.fingerprint)
        make = partial(self._of_real, self.images)
        parts = cut(len(self.images), _REFERENCE_IMAGES)
        return [Piece(f"{folder}{part.start:09d}.safetensors", len(part), partial(make, part)) for part in parts]

    @cached_property
    def blocks(self) -> list[list[Piece]]:
        """Drawn images and their features, block by block."""
        seeded_sampler = self.as_images
        return [
            [self._drawn(seeded_sampler, seeds) for seeds in self._seeds(block)] for block in range(self.spec.repeats)
        ]

    @cached_property
    def as_images(self) -> SeededSampler:
        """Draws classes as often as the training images have them, where it is these that drawn images are beside.

        Evenly drawn ones would be far from them for their classes alone.
        """
        if self.images is None or self.labels != "as_images":
            return self.seeded_sampler
        if (labels := self.images.labels(np.arange(len(self.images)))) is None:
            return self.seeded_sampler
        return self.seeded_sampler.like(labels)

    @property
    def labels(self) -> Labels | None:
        """By what the classes of drawn images are chosen; None if there are none."""
        if self.seeded_sampler.classes is None:
            return None
        return "evenly" if self.spec.classes or self.spec.reference else "as_images"

    @cached_property
    def timeline(self) -> list[Piece]:
        """The same latents with few steps and more: few-step quality at a glance, from checkpoint to checkpoint."""
        return [self._few_steps(steps) for steps in self.spec.timeline_steps]

    @cached_property
    def drift(self) -> list[Piece]:
        """How the network denoises, and how consistently, at some of the training images and on its own paths."""
        if self.images is None:
            return []
        passes = evaluations_at_images(self.levels) + evaluations_on_own_paths(
            self.levels, self.seeded_sampler.sampler.sigma_max
        )
        return self._by_level("drift", partial(self._drift, self.images), self.images, passes)

    @cached_property
    def held_out_drift(self) -> list[Piece]:
        """The same at images that it has not seen."""
        if self.held_out is None:
            return []
        make = partial(self._held_out_drift, self.held_out)
        return self._by_level("held-out", make, self.held_out, evaluations_at_images(self.levels))

    @cached_property
    def exact_denoiser(self) -> Denoiser:
        """In float32: the rounding of bfloat16 is many times the gap at low noise levels."""
        exact = copy(self.seeded_sampler.denoiser)
        exact.precision = torch.float32
        return exact

    @cached_property
    def levels(self) -> tuple[float, ...]:
        """Noise levels that the network has been trained at and is sampled at."""
        lowest, highest = trained_range(self.seeded_sampler.denoiser.preconditioning)
        return tuple(
            level for level in LEVELS if lowest <= level <= min(highest, self.seeded_sampler.sampler.sigma_max)
        )

    @cached_property
    def chosen(self) -> Int64[Tensor, " images"] | None:
        """Numbers of the training images that drawn ones are beside: those of the classes asked for; None: all."""
        if self.images is None or self.spec.classes is None:
            return None
        if (labels := self.images.labels(np.arange(len(self.images)))) is None:
            return None
        return torch.isin(labels, torch.tensor(self.spec.classes)).nonzero()[:, 0]

    def real_features(self) -> Float[Tensor, "images dimensions"]:
        """Of the chosen training images."""
        features, chosen = self._read(self.reference, "features"), self.chosen
        return features if chosen is None else features[chosen]

    def drawn_features(self) -> list[Float[Tensor, "images dimensions"]]:
        return [self._read(block, "features") for block in self.blocks]

    def drawn_images(self, numbers: Sequence[int]) -> UInt8[Tensor, "images channels height width"]:
        """Of the first block."""
        size, block = self.spec.pass_images, self.blocks[0]
        parts = {part: read_piece(self.store, block[part].key)["pixels"] for part in {n // size for n in numbers}}
        return torch.stack([parts[number // size][number % size] for number in numbers])

    def timeline_images(self) -> UInt8[Tensor, "images channels height width"]:
        """Row by row, eight of each."""
        return self._read(self.timeline, "pixels")

    def contributions(self) -> dict[str, Float[Tensor, "levels images"]]:
        """What each image adds to each measure by noise level; none if nothing is measured so."""
        return {**self._by_name(self.drift), **self._by_name(self.held_out_drift)}

    def _by_name(self, pieces: Sequence[Piece]) -> dict[str, Tensor]:
        parts = [read_piece(self.store, piece.key) for piece in pieces]
        return {name: torch.cat([part[name] for part in parts], dim=1) for name in (parts[0] if parts else ())}

    def _by_level(self, name: str, make: Callable[[range], Tensors], images: ImageSet, passes: int) -> list[Piece]:
        if not self.levels:
            return []
        parts = cut(min(self.spec.drift_images, len(images)), self.spec.pass_images)
        return [
            Piece(self.keys.piece(f"{name}-{part.start:06d}"), len(part), partial(make, part), passes) for part in parts
        ]

    def _read(self, pieces: Sequence[Piece], name: str) -> Tensor:
        return read_pieces(self.store, pieces, name)

    def _seeds(self, block: int) -> list[range]:
        first = self.spec.first_seed + block * self.spec.num_images
        parts = cut(self.spec.num_images, self.spec.pass_images)
        return [range(first + part.start, first + part.stop) for part in parts]

    def _drawn(self, seeded_sampler: SeededSampler, seeds: range) -> Piece:
        def make() -> Tensors:
            pixels = seeded_sampler.draw(seeds)
            return {"pixels": pixels, "features": self.extractor(pixels).cpu()}

        passes = evaluations(self.seeded_sampler.sampler) + 1  # and one through the network of features
        return Piece(self.keys.piece(f"drawn-{seeds.start:016d}"), len(seeds), make, passes)

    def _few_steps(self, steps: int) -> Piece:
        seeded_sampler = replace(
            self.seeded_sampler, sampler=self.seeded_sampler.sampler.model_copy(update={"steps": steps})
        )

        def make() -> Tensors:
            return {"pixels": seeded_sampler.draw(_TIMELINE_SEEDS)}

        return Piece(
            self.keys.piece(f"timeline-{steps:04d}"), TIMELINE_IMAGES, make, evaluations(seeded_sampler.sampler)
        )

    def _of_real(self, images: ImageSet, part: range) -> Tensors:
        return {"features": self.extractor(images.images(np.asarray(part))).cpu()}

    def _drift(self, images: ImageSet, part: range) -> Tensors:
        x, conditions, noises = self._some_of(images, part)
        denoiser, levels = self.exact_denoiser, self.levels
        highest = self.seeded_sampler.sampler.sigma_max
        with whole_float32():
            loss = denoising_loss(denoiser, x, conditions, levels, noises)
            at_images = drift_at_images(denoiser, x, conditions, levels, noises)
            own = drift_on_own_paths(denoiser, conditions, levels, noises, sigma_max=highest)
        found = {
            LOSS: loss,
            GAP: at_images.gap,
            OWN_GAP: own.gap,
            "energy_at_images": at_images.energy,
            "energy_on_own_paths": own.energy,
        }
        return {name: values.float().cpu() for name, values in found.items()}

    def _held_out_drift(self, images: ImageSet, part: range) -> Tensors:
        x, conditions, noises = self._some_of(images, part)
        denoiser, levels = self.exact_denoiser, self.levels
        with whole_float32():
            found = {
                HELD_OUT_LOSS: denoising_loss(denoiser, x, conditions, levels, noises),
                HELD_OUT_GAP: drift_at_images(denoiser, x, conditions, levels, noises).gap,
            }
        return {name: values.float().cpu() for name, values in found.items()}

    def _some_of(self, images: ImageSet, part: range) -> tuple[Float[Tensor, "batch *shape"], Conditions, Noises]:
        """Evenly out of all images, which may be in the order of their classes; and their noise."""
        chosen = spread(len(images), self.spec.drift_images).numpy()[part.start : part.stop]
        x = from_uint8(images.images(chosen)).to(self.seeded_sampler.device)
        labels = images.labels(chosen) if self.seeded_sampler.classes is not None else None
        conditions = UNCONDITIONAL if labels is None else Conditions(labels=labels.to(self.seeded_sampler.device))
        return x, conditions, noises_of(self.spec.first_seed, [*part], x)
