"""Precision, recall, density and coverage, where they are known, and in pieces."""

import pytest
import torch
from torch import Tensor

from workers.evaluation import neighbours
from workers.evaluation.manifolds import PrecisionRecall, precision_recall


def normal(images: int, dimensions: int, seed: int) -> Tensor:
    return torch.randn(images, dimensions, generator=torch.Generator().manual_seed(seed))


def at_once(real: Tensor, fake: Tensor, k: int) -> PrecisionRecall:
    """With whole matrices of directly computed distances; its own is among each image's neighbours, first."""
    between, inside = torch.cdist(real.double(), fake.double(), compute_mode="donot_use_mm_for_euclid_dist"), []
    for images in (real.double(), fake.double()):
        all_others = torch.cdist(images, images, compute_mode="donot_use_mm_for_euclid_dist")
        inside.append(all_others.sort(dim=1).values[:, k])
    within_real, within_fake = between <= inside[0][:, None], between <= inside[1]
    return PrecisionRecall(
        precision=float(within_real.any(dim=0).double().mean()),
        recall=float(within_fake.any(dim=1).double().mean()),
        density=float(within_real.double().sum(dim=0).mean()) / k,
        coverage=float(within_real.any(dim=1).double().mean()),
    )


def test_sets_far_from_each_other_share_nothing() -> None:
    assert precision_recall(normal(50, 4, 0), normal(60, 4, 1) + 100) == PrecisionRecall(0.0, 0.0, 0.0, 0.0)


def test_a_set_shares_all_with_itself() -> None:
    images = normal(100, 4, 0)

    found = precision_recall(images, images, k=3)

    assert (found.precision, found.recall, found.coverage) == (1, 1, 1)
    assert found.density == pytest.approx(4 / 3)  # each reaches itself and three others


def test_what_lies_inside_is_precise_and_what_is_left_out_is_not_recalled() -> None:
    real = torch.cat([normal(200, 4, 0), normal(200, 4, 1) + 100])

    found = precision_recall(real, normal(400, 4, 2))

    assert found.precision > 0.9
    assert found.recall == pytest.approx(0.5, abs=0.05)
    assert found.coverage == pytest.approx(0.5, abs=0.05)


@pytest.mark.parametrize("k", [1, 5])
def test_the_matrix_may_be_cut_into_any_pieces(monkeypatch: pytest.MonkeyPatch, k: int) -> None:
    real, fake = normal(83, 6, 0), normal(61, 6, 1) * 1.2 + 0.3
    whole = precision_recall(real, fake, k=k)

    monkeypatch.setattr(neighbours, "_ELEMENTS", 500)

    assert precision_recall(real, fake, k=k) == whole == at_once(real, fake, k)
    assert all(0.1 < share < 0.99 for share in (whole.precision, whole.recall, whole.density, whole.coverage))


def test_nearest_neighbours_are_those_of_all_distances(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = normal(83, 6, 0), normal(61, 6, 1)
    all_distances = torch.cdist(x.double(), y.double(), compute_mode="donot_use_mm_for_euclid_dist")
    monkeypatch.setattr(neighbours, "_ELEMENTS", 500)

    found, alone = neighbours.nearest(x, y), neighbours.nearest_others(torch.cat([x, x[:1]]))

    assert torch.equal(found.indices, all_distances.argmin(dim=1))
    assert torch.allclose(found.distances, all_distances.amin(dim=1), rtol=1e-12)
    assert (int(alone.indices[0]), int(alone.indices[83])) == (83, 0)
    assert (float(alone.distances[0]), float(alone.distances[83])) == (0, 0)


def test_too_few_images_for_k_are_refused() -> None:
    with pytest.raises(ValueError, match="5 real and 20 drawn images are too few for k = 5"):
        precision_recall(normal(5, 2, 0), normal(20, 2, 1), k=5)
