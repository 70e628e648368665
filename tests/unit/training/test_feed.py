"""Images reach the device the same way, resident or not."""

from pathlib import Path

import numpy as np
import torch

from tests.support.images import imported
from tests.support.specs import smoke_spec
from workers.training.feed import Feed


def test_a_resident_image_set_gives_what_the_files_give(tmp_path: Path) -> None:
    images = imported(smoke_spec().dataset, tmp_path)
    expected = images.labels(indices := np.array([3, 9_999, 0, 3]))
    assert expected is not None

    for resident in (True, False):
        pixels, labels = Feed(images, torch.device("cpu"), resident=resident).batch(indices)
        assert labels is not None
        assert torch.equal(pixels, images.images(indices))
        assert torch.equal(labels, expected)
