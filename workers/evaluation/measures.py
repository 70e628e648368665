"""All that is measured of drawn images beside real ones, by name."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from workers.contract.evaluation import Measure
from workers.contract.features import Inception, Lite0
from workers.evaluation.distances import KernelDistance, frechet_distance, kernel_distance
from workers.evaluation.manifolds import precision_recall
from workers.evaluation.memorisation import memorisation
from workers.evaluation.neighbours import Nearest
from workers.evaluation.statistics import Statistics

_MOST_NEIGHBOURS = 10_000  # images on either side; the work grows with their product
_MOST_SEARCHED = 50_000  # training images that copies are looked for among
_SHUFFLE = 0x5EED

Features = Float[Tensor, "images dimensions"]


@dataclass(frozen=True, slots=True)
class ReferenceComparison:
    """What the images of all blocks look like beside real ones, and which real one each of the first block is like."""

    measures: Mapping[str, Measure]
    nearest: Nearest


def compare_with_images(
    config: Lite0 | Inception, blocks: Sequence[Features], real: Features, *, device: torch.device
) -> ReferenceComparison:
    """Distances of each block, then those of the first block to single images.

    They are computed on `device`; features stay where they are, since those of a large image set may not fit there.
    """
    everything = Statistics.of(real, device)
    frechet = [frechet_distance(Statistics.of(block, device), everything) for block in blocks]
    kernel = [kernel_distance(block, real, device=device) for block in blocks]
    ours, others = _halves(real, len(blocks[0]))
    first = blocks[0][:_MOST_NEIGHBOURS].to(device)
    neighbours = precision_recall(real[spread(len(real), len(first))].to(device), first)
    num_beside = min(len(ours), _MOST_NEIGHBOURS)
    by_chance = precision_recall(others[:num_beside].to(device), ours[:num_beside].to(device))
    searched = spread(len(real), _MOST_SEARCHED)
    known = memorisation(blocks[0].to(device), real[searched].to(device))
    apart = frechet_distance(Statistics.of(ours, device), Statistics.of(others, device))
    apart *= _bias(len(blocks[0]), len(real)) / _bias(len(ours), len(others))
    measures = {
        config.frechet_name: _of_blocks(frechet, floor=apart),
        config.kernel_name: _of_kernels(kernel, floor=kernel_distance(ours, others, device=device).value),
        **{
            name: Measure(value=getattr(neighbours, name), floor=getattr(by_chance, name))
            for name in ("precision", "recall", "density", "coverage")
        },
        "memorised_share": Measure(value=known.share_nearer, floor=0.01),
        "memorisation_z": Measure(value=known.z, floor=0.0),
    }
    return ReferenceComparison(measures, Nearest(known.nearest.distances.cpu(), searched[known.nearest.indices.cpu()]))


def compare_with_statistics(
    config: Lite0 | Inception, blocks: Sequence[Features], real: Statistics, *, device: torch.device
) -> dict[str, Measure]:
    """The one distance for which published mean and covariance are enough, computed on `device`."""
    published = real.to(device)
    frechet = [frechet_distance(Statistics.of(block, device), published) for block in blocks]
    return {config.frechet_name: _of_blocks(frechet)}


def _of_blocks(values: Sequence[float], *, floor: float | None = None) -> Measure:
    error = stdev(values) / math.sqrt(len(values)) if len(values) > 1 else None
    return Measure(value=fmean(values), blocks=tuple(values), standard_error=error, floor=floor)


def _of_kernels(distances: Sequence[KernelDistance], *, floor: float) -> Measure:
    """A block says itself how sure it is; several say it of each other."""
    measure = _of_blocks([each.value for each in distances], floor=floor)
    if measure.standard_error is None:
        one = distances[0]
        return measure.model_copy(update={"standard_error": one.standard_error, "shares": one.shares})
    return measure


def _bias(count: int, other_count: int) -> float:
    """What the Fréchet distance of so many images of one distribution is proportional to."""
    return 1 / count + 1 / other_count


def _halves(real: Features, count: int) -> tuple[Features, Features]:
    """So many of the images at random, half of them at most, and the others."""
    order = torch.randperm(len(real), generator=torch.Generator().manual_seed(_SHUFFLE))
    taken = min(count, len(real) // 2)
    return real[order[:taken]], real[order[taken:]]


def spread(count: int, most: int) -> Int64[Tensor, " chosen"]:
    """Numbers of images evenly out of all, which may be in the order of their classes."""
    return torch.arange(count) if count <= most else torch.arange(most) * count // most
