"""Drawing and measuring on a GPU: what it gives does not depend on how fast it may round."""

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.support.drawn import Gallery
from workers.contract.evaluation import Evaluation
from workers.contract.features import Lite0
from workers.evaluation.features import open_features
from workers.evaluation.measures import compare_with_images

SMALL: dict[str, Any] = {
    **{"num_images": 12, "pass_images": 8, "drift_images": 6, "timeline_steps": [2], "sampler": {"steps": 2}},
}


@pytest.fixture
def gallery(tmp_path: Path) -> Gallery:
    """A job trained on a CPU for a moment, whose checkpoints are drawn from and measured on the GPU."""
    np.savez(tmp_path / "images.npz", images=np.random.default_rng(0).integers(0, 256, (60, 16, 16), dtype=np.uint8))
    dataset = {"kind": "npz", "path": str(tmp_path / "images.npz"), "channels": 1}
    return Gallery(f"gpu-{tmp_path.name}", tmp_path, dataset=dataset)


def evaluated(gallery: Gallery, job_id: str, device: torch.device, **compute: Any) -> Evaluation:
    gallery.run(job_id, "evaluate", device=device, **SMALL, compute={"accelerator": "gpu", **compute})
    return Evaluation.model_validate_json(gallery.result(job_id))


def test_drift_does_not_depend_on_tensorfloat_or_bfloat16(gallery: Gallery, gpu: torch.device) -> None:
    whole = evaluated(gallery, "whole", gpu, tf32=False, deterministic=True)

    rounded = evaluated(gallery, "rounded", gpu, tf32=True, precision="bfloat16", deterministic=True)

    for name in ("loss", "gap_at_images", "gap_on_own_paths"):
        ours, theirs = ([level.mean for level in found.curves[name]] for found in (whole, rounded))
        assert ours == pytest.approx(theirs, rel=1e-3, abs=1e-6)


def test_features_are_those_of_a_cpu(gpu: torch.device) -> None:
    images = torch.randint(0, 256, (20, 3, 32, 32), dtype=torch.uint8)
    torch.backends.cudnn.allow_tf32 = True

    ours, theirs = (open_features(Lite0(kind="lite0"), device=device)(images).cpu() for device in (gpu, "cpu"))

    torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-4)


def test_images_of_seeds_are_nearly_those_of_a_cpu(gallery: Gallery, gpu: torch.device) -> None:
    drawn = {}
    for device, accelerator in ((gpu, "gpu"), (torch.device("cpu"), "cpu")):
        fields = {"num_images": 4, "archive": "npz", "sampler": {"steps": 3}}
        gallery.run(accelerator, "sample", device=device, **fields, compute={"accelerator": accelerator, "tf32": False})
        drawn[accelerator] = gallery.file(accelerator, "images.npz")

    ours, theirs = (np.load(io.BytesIO(data))["images"].astype(int) for data in drawn.values())
    assert np.abs(ours - theirs).max() <= 2


@pytest.fixture
def deterministic() -> Iterator[None]:
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


@pytest.mark.usefixtures("deterministic")
def test_measures_are_those_of_a_cpu(gpu: torch.device) -> None:
    generator = torch.Generator().manual_seed(0)
    real, *blocks = (torch.randn(count, 16, generator=generator) for count in (500, 60, 60))

    ours, theirs = (
        compare_with_images(Lite0(kind="lite0"), blocks, real, device=device) for device in (gpu, torch.device("cpu"))
    )

    assert {name: each.value for name, each in ours.measures.items()} == pytest.approx(
        {name: each.value for name, each in theirs.measures.items()}, rel=1e-6, abs=1e-9
    )
    assert torch.equal(ours.nearest.indices, theirs.nearest.indices)
