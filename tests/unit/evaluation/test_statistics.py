"""Statistics as files: EDM's layout, and what is refused."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.support.payload import Payload
from workers.contract.document import SpecError
from workers.evaluation.statistics import Statistics

MU, SIGMA = np.arange(3.0), np.diag([1.0, 2.0, 3.0])


def npz(**arrays: Any) -> bytes:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    return buffer.getvalue()


def test_a_published_file_has_its_mean_and_covariance() -> None:
    written = Statistics.of(torch.randn(50, 4))

    read = Statistics.from_npz(npz(mu=written.mean.numpy(), sigma=written.covariance.numpy()))

    assert torch.equal(read.mean, written.mean)
    assert torch.allclose(read.covariance, written.covariance, rtol=1e-14, atol=0)


def test_they_are_made_on_another_device_than_the_features_are_on() -> None:
    elsewhere = torch.device("meta")  # has shapes only, and computes with nothing that is on a CPU

    made = Statistics.of(torch.randn(9, 4), elsewhere)

    assert made.mean.device == made.covariance.device == elsewhere
    assert made.covariance.shape == (4, 4)


def test_published_files_do_not_say_how_many_images_they_are_of() -> None:
    read = Statistics.from_npz(npz(mu=MU.astype(np.float32), sigma=SIGMA))

    assert read.count is None
    assert read.mean.dtype == read.covariance.dtype == torch.float64


@pytest.mark.parametrize(
    ("arrays", "reason"),
    [
        ({"mu": MU}, "no array of floating-point numbers 'sigma'"),
        ({"mu": MU, "sigma": SIGMA.astype(int)}, "no array of floating-point numbers 'sigma'"),
        ({"mu": MU, "sigma": SIGMA[:2]}, r"shapes \[3\] and \[2, 3\]"),
        ({"mu": MU[:0], "sigma": SIGMA[:0, :0]}, r"shapes \[0\] and \[0, 0\]"),
        ({"mu": np.float64(1), "sigma": SIGMA}, r"shapes \[\] and \[3, 3\]"),
        ({"mu": MU * np.nan, "sigma": SIGMA}, "not finite"),
        ({"mu": MU, "sigma": SIGMA + np.eye(3, k=1)}, "not symmetric"),
        ({"mu": MU, "sigma": -SIGMA}, "negative variance"),
    ],
)
def test_what_is_no_mean_and_covariance_is_refused(arrays: dict[str, Any], reason: str) -> None:
    with pytest.raises(SpecError, match=reason):
        Statistics.from_npz(npz(**arrays))


def test_files_that_are_damaged_or_hostile_are_refused_and_nothing_in_them_is_run(tmp_path: Path) -> None:
    whole = npz(mu=MU, sigma=SIGMA)
    owned = tmp_path / "owned"
    hostile = npz(mu=np.array([Payload(owned)], dtype=object), sigma=SIGMA)

    for data in (b"", b"text", whole[: len(whole) // 2], whole.replace(whole[60:64], b"\0\0\0\0", 1), hostile):
        with pytest.raises(SpecError, match="not a NumPy archive of numbers"):
            Statistics.from_npz(data)
    assert not owned.exists()
