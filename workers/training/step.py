"""One optimizer step after another on one state, without input or output of its own."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.utils import clip_grads_with_norm_, get_total_norm

from workers.contract.spec import TrainSpec
from workers.data import ImageSet, sample_order
from workers.diffusion.augmentation import augment, draw_augmentation
from workers.diffusion.ema import decays, update_ema
from workers.diffusion.objective import Draws, Objective, Randomness, Terms
from workers.diffusion.transfer import to_device
from workers.networks import after_step
from workers.pictures import from_uint8
from workers.training.backend import compile_networks
from workers.training.feed import Feed
from workers.training.state import TrainState
from workers.training.world import World


@dataclass(frozen=True, slots=True)
class Step:
    """One optimizer step. The losses are this process's, per image, still on its device.

    So is the gradient's norm: that of the whole batch, as it was before it was scaled down.
    """

    images_seen: int
    terms: Terms
    gradient_norm: Float[Tensor, ""]


@dataclass(frozen=True, slots=True)
class Pass:
    """What one forward and backward pass computes on: a share of the batch."""

    images: Float[Tensor, "share channels side side"]
    labels: Tensor | None
    augmentation: Float[Tensor, "share features"] | None
    draws: Draws


class Trainer:
    """Takes optimizer steps on one state. All that takes time before the first is done when it is built.

    Nothing is written, logged or reduced here; the caller does that between steps.
    Which images and which noise a step sees depends on the seed and on `images_seen` alone: every process draws the
    randomness of the whole batch and computes on its share, so any number of processes trains the same model, and a
    restored state goes on as if nothing had happened.
    """

    def __init__(self, state: TrainState, images: ImageSet, spec: TrainSpec, world: World) -> None:
        self._state, self._spec, self._world = state, spec, world
        self._num_images = len(images)
        self._feed = Feed(images, world.device)
        self._generator = torch.Generator(world.device)
        self._num_shares = spec.shares(world.size)
        self._mine = range(world.rank, self._num_shares, world.size)
        self._objective = Objective(state.denoiser, spec.objective.consistency)
        side = images.manifest.resolution
        self._randomness = Randomness(
            (images.manifest.channels, side, side),
            spec.preconditioning,
            spec.objective.consistency,
            label_dropout=spec.objective.label_dropout,
            dropout=spec.network.dropout,
            dropout_elements=state.denoiser.network.dropout_elements,
        )
        self._module = world.wrap(self._objective)  # first: what DDP keeps is tried, too, and what it runs is compiled
        if spec.compute.compile:
            term = spec.objective.consistency
            targets = (state.ema,) if term and term.regresses_on_average else ()
            compile_networks((state.denoiser, *targets), self._trial, world)
        elif world.device.type == "cuda":
            self._trial()  # so that memory that will not do says so now, and not where the term begins
        if world.device.type == "cuda":
            torch.cuda.empty_cache()  # what a trial has held is NCCL's to take as well
            torch.cuda.reset_peak_memory_stats(world.device)

    def steps(self) -> Iterator[Step]:
        """Take steps until `duration_images` have been seen; the caller may stop whenever it likes."""
        while self._state.images_seen < self._spec.duration_images:
            yield self.step()

    def step(self) -> Step:
        """Take one step on the next batch and move the averages.

        A step whose gradient is not finite leaves the weights and Adam's state alone. Nothing waits for the device.
        """
        state, spec = self._state, self._spec
        state.optimizer.zero_grad(set_to_none=True)
        terms = self._accumulate()
        norm = get_total_norm([p.grad for p in state.denoiser.parameters() if p.grad is not None])
        if spec.optimizer.max_gradient_norm is not None:
            clip_grads_with_norm_(state.denoiser.parameters(), spec.optimizer.max_gradient_norm, norm)
        for group in state.optimizer.param_groups:
            group["lr"] = learning_rate(spec, state.images_seen)
        # Adam's fused kernel reads this and skips the step, without the host.
        state.optimizer.found_inf = (~norm.isfinite()).float()  # type: ignore[attr-defined]
        state.optimizer.step()
        after_step(state.denoiser.network)

        state.images_seen += spec.batch_images
        shares = decays(
            spec.ema,
            batch_images=spec.batch_images,
            images_seen=state.images_seen,
            starts_trained=spec.initial_weights is not None,
        )
        for average, decay in zip(state.averages, shares, strict=True):
            update_ema(list(average.parameters()), list(state.denoiser.parameters()), decay)
        return Step(state.images_seen, terms, norm)

    def _accumulate(self) -> Terms:
        """Add up the gradients of all passes; all but the last tell the other processes nothing."""
        passes = self._drawn(self._spec.consistency_images_at(self._state.images_seen))
        with self._world.no_sync(self._module):
            parts = [self._backward(next(passes)) for _ in self._mine[1:]]
        parts.append(self._backward(next(passes)))
        return Terms.joined(parts) if len(parts) > 1 else parts[0]

    def _backward(self, share: Pass) -> Terms:
        """Gradients of the batch's mean, if one process makes a pass more than another, too: DDP takes their mean."""
        terms: Terms = self._module(
            share.images, share.labels, share.draws, augmentation=share.augmentation, frozen=self._state.ema
        )
        part_of_mean = self._objective.total(terms) * (self._world.size / self._num_shares)
        part_of_mean.backward()  # type: ignore[no-untyped-call] # untyped in torch
        return terms.detached()

    def _drawn(self, sub: int) -> Iterator[Pass]:
        """This process's shares of the next batch, each of every n-th image, so that all hold as much of the term.

        `sub` images of the batch carry it.
        """
        spec, seen = self._spec, self._state.images_seen
        batch = sample_order(spec.seed, first=seen, count=spec.batch_images, num_images=self._num_images)
        noise_seed, geometry_seed = _step_seeds(spec.seed, seen)
        draws = self._randomness.draw(self._generator.manual_seed(noise_seed), num_images=spec.batch_images, sub=sub)
        geometry = spec.augmentation and draw_augmentation(
            torch.Generator().manual_seed(geometry_seed),
            num_images=spec.batch_images,
            probability=spec.augmentation.probability,
        )
        for place in self._mine:
            mine = slice(place, None, self._num_shares)
            pixels, labels = self._feed.batch(batch[mine])
            images, features = from_uint8(pixels), None
            if geometry:
                part = geometry.part(mine)
                images = augment(images, part)
                features = to_device(part.labels(), images.device)
            yield Pass(images, labels, features, draws.share(place, self._num_shares))

    def _trial(self) -> None:
        """What a run will come to: passes without the consistency term and with it, their gradients thrown away.

        Nobody is told of these, so that a process that fails in its trial leaves no other waiting.
        """
        for sub in sorted({self._spec.consistency_images_at(self._state.images_seen), self._spec.consistency_images}):
            try:
                with self._world.no_sync(self._module):
                    for share in islice(self._drawn(sub), 2):  # the second finds the gradients of the first
                        self._backward(share)
            finally:
                self._state.optimizer.zero_grad(set_to_none=True)


def learning_rate(spec: TrainSpec, images_seen: int) -> float:
    """Linear from near zero over `warmup_images`, then constant, or falling as the inverse square root."""
    adam = spec.optimizer
    after = images_seen + spec.batch_images
    rise = min(1.0, after / adam.warmup_images) if adam.warmup_images else 1.0
    fall = math.sqrt(min(1.0, adam.decay_after_images / after)) if adam.decay_after_images else 1.0
    return adam.learning_rate * rise * fall


def _step_seeds(seed: int, images_seen: int) -> tuple[int, int]:
    """Well-mixed seeds for noise and for geometry, of which a GPU takes 63 bits and a CPU 32.

    Two of them: drawn alike on a CPU, the flips of images would tell how noisy they are.
    """
    noise, geometry = np.random.SeedSequence([seed, images_seen]).generate_state(2, np.uint64) >> np.uint64(1)
    return int(noise), int(geometry)
