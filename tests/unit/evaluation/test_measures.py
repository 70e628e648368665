"""What is measured beside real images, at features whose distribution is known."""

import pytest
import torch

from workers.contract.features import Lite0
from workers.evaluation.measures import compare_with_images


@pytest.mark.parametrize(("real", "drawn"), [(600, 600), (600, 150), (900, 300)])
def test_the_floor_is_what_images_of_the_very_distribution_get(real: int, drawn: int) -> None:
    """The Fréchet distance is biased by the numbers of images; real images alone cannot be halved into such numbers."""
    features = torch.randn(real + drawn, 16, generator=torch.Generator().manual_seed(3), dtype=torch.float64)

    measures = compare_with_images(Lite0(kind="lite0"), [features[real:]], features[:real], device=torch.device("cpu"))

    frechet = measures.measures["FD-ENL0"]
    assert frechet.floor == pytest.approx(frechet.value, rel=0.25)
