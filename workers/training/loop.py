"""The training loop: a generator of steps over one state, without input or output of its own."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from workers.contract.spec import TrainSpec
from workers.data import ImageSet, sample_order
from workers.diffusion.ema import ema_decay, update_ema
from workers.diffusion.objective import Objective, Terms, draw
from workers.training.state import TrainState
from workers.training.world import World


@dataclass(frozen=True, slots=True)
class Step:
    """One optimizer step. The losses are this process's, per image, still on its device."""

    images_seen: int
    terms: Terms


def train(state: TrainState, images: ImageSet, spec: TrainSpec, world: World) -> Iterator[Step]:
    """Train until `spec.duration_images` images have been seen, yielding after every optimizer step.

    Nothing is written, logged or reduced here; the caller does that between steps, and may stop whenever it likes.
    Which images and which noise a step sees depends on the seed and on `images_seen` alone: every process draws the
    randomness of the whole batch and computes on its share, so any number of processes trains the same model, and a
    restored state goes on as if nothing had happened.
    """
    objective = Objective(state.denoiser, spec.objective.consistency)
    module = world.wrap(objective)
    while state.images_seen < spec.duration_images:
        terms = _optimize(state, images, spec, world, objective, module)
        yield Step(state.images_seen, terms)


def _optimize(
    state: TrainState, images: ImageSet, spec: TrainSpec, world: World, objective: Objective, module: nn.Module
) -> Terms:
    """Take one optimizer step on the next batch and move the average."""
    _warm_up(state, spec)
    batch = sample_order(spec.seed, first=state.images_seen, count=spec.batch_images, num_images=len(images))
    mine = batch[world.rank :: world.size]
    pixels = images.images(mine).to(world.device, torch.float32) / 127.5 - 1
    labels = images.labels(mine)
    draws = draw(
        torch.Generator(world.device).manual_seed(_step_seed(spec.seed, state.images_seen)),
        num_images=spec.batch_images,
        shape=tuple(pixels.shape[1:]),
        noise=spec.noise,
        term=spec.objective.consistency,
        sub=spec.consistency_images,
    ).share(world.rank, world.size)

    terms: Terms = module(pixels, None if labels is None else labels.to(world.device), draws, state.ema)
    state.optimizer.zero_grad(set_to_none=True)
    objective.total(terms).backward()  # type: ignore[no-untyped-call] # untyped in torch
    state.optimizer.step()

    state.images_seen += spec.batch_images
    decay = ema_decay(spec.ema, batch_images=spec.batch_images, images_seen=state.images_seen)
    update_ema(list(state.ema.parameters()), list(state.denoiser.parameters()), decay)
    return Terms(terms.dsm.detach(), terms.consistency.detach())


def learning_rate(spec: TrainSpec, images_seen: int) -> float:
    """Linear from near zero over `warmup_images`, then constant."""
    warmup = spec.optimizer.warmup_images
    share = min(1.0, (images_seen + spec.batch_images) / warmup) if warmup else 1.0
    return spec.optimizer.learning_rate * share


def _warm_up(state: TrainState, spec: TrainSpec) -> None:
    for group in state.optimizer.param_groups:
        group["lr"] = learning_rate(spec, state.images_seen)


def _step_seed(seed: int, images_seen: int) -> int:
    """A well-mixed 63-bit seed; neighbouring steps of neighbouring seeds must not share noise."""
    return int(np.random.SeedSequence([seed, images_seen]).generate_state(1, np.uint64)[0] >> np.uint64(1))


class LossWindow:
    """Mean losses since the last look, over all processes; the device is only waited for when looking."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._sums = torch.zeros(4, dtype=torch.float64, device=world.device)

    def add(self, terms: Terms) -> None:
        self._sums[0] += terms.dsm.sum()
        self._sums[1] += len(terms.dsm)
        self._sums[2] += terms.consistency.sum()
        self._sums[3] += len(terms.consistency)

    def close(self) -> dict[str, float]:
        """The mean losses by name; then start anew."""
        dsm, num_dsm, consistency, num_consistency = self._world.sum(self._sums).tolist()
        self._sums.zero_()
        losses = {"dsm": dsm / num_dsm} if num_dsm else {}
        if num_consistency:
            losses["consistency"] = consistency / num_consistency
        return losses
