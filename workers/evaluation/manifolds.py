"""Which part of what is drawn looks real, and which part of what is real is drawn."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from workers.evaluation.neighbours import distance_rows, radii


@dataclass(frozen=True, slots=True)
class PrecisionRecall:
    """Shares of images, so from 0 to 1, but for `density`, which may be above 1."""

    precision: float  # of the drawn images, those within reach of a real one (Kynkäänniemi et al. 2019)
    recall: float  # of the real images, those within reach of a drawn one
    density: float  # within reach of how many real ones a drawn one is, over k (Naeem et al. 2020)
    coverage: float  # of the real images, those with a drawn one within their reach


def precision_recall(
    real: Float[Tensor, "images_real dimensions"], fake: Float[Tensor, "images_fake dimensions"], *, k: int = 5
) -> PrecisionRecall:
    """An image reaches as far as its k-th nearest neighbour in its own set. Compare at equal numbers and k only.

    k = 5 is that of Naeem et al.; Kynkäänniemi et al. take 3.
    Sets of n images take n^2 distances, of which 32 MiB are held at once.

    Raises:
        ValueError: a set has no k-th neighbour.
    """
    if min(len(real), len(fake)) <= k:
        raise ValueError(f"{len(real)} real and {len(fake)} drawn images are too few for k = {k}")
    reach_real, reach_fake = radii(real, k), radii(fake, k)
    within_real = torch.zeros(len(fake), dtype=torch.int64, device=fake.device)
    within_fake, covered = [], []
    for first, distances in distance_rows(real, fake):
        reached = distances <= reach_real[first : first + len(distances), None]
        within_real += reached.sum(dim=0)
        covered.append(reached.any(dim=1))
        within_fake.append((distances <= reach_fake).any(dim=1))
    return PrecisionRecall(
        precision=_share(within_real > 0),
        recall=_share(torch.cat(within_fake)),
        density=float(within_real.double().mean()) / k,
        coverage=_share(torch.cat(covered)),
    )


def _share(which: Tensor) -> float:
    return float(which.double().mean())
