"""`python -m workers` on a file of weights that no job here has trained: its images, and how good they are."""

import io
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support.small_networks import config, small_network
from tests.support.worker_command import run
from workers.contract.data import NpzDataset
from workers.contract.evaluation import WeightsEvaluation
from workers.contract.keys import RESULT, JobKeys
from workers.contract.model import EDM
from workers.contract.sampling import Sampled
from workers.data import import_dataset
from workers.storage.local import LocalStore
from workers.training.weights import WeightsHeader, save_weights

pytestmark = pytest.mark.timeout(600)


def write(folder: Path, name: str, kind: str, **fields: Any) -> None:
    drawing = {"weights": str(folder / "edm.safetensors"), "sampler": {"steps": 2}, "compute": {"accelerator": "cpu"}}
    (folder / f"{name}.json").write_text(json.dumps({"kind": kind, **drawing, **fields}))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With weights of a network of three classes."""
    folder = tmp_path_factory.mktemp("elsewhere")
    header = WeightsHeader(
        network=config("ddpmpp", class_conditional=True),
        preconditioning=EDM(kind="edm", sigma_data=0.5),
        sigma_data=0.5,
        image_channels=1,
        resolution=8,
        num_classes=3,
        augmentation_features=9,
    )
    save_weights(folder / "edm.safetensors", small_network("ddpmpp", image_channels=1).state_dict(), header)
    return folder


def test_images_are_drawn_and_measured_by_an_image_set_of_the_same_classes(folder: Path) -> None:
    store, pixels = LocalStore(folder / "runs"), np.random.default_rng(0).integers(0, 256, (30, 8, 8), dtype=np.uint8)
    np.savez(folder / "images.npz", images=pixels, labels=np.arange(30) % 3)
    digest = import_dataset(NpzDataset(kind="npz", path=str(folder / "images.npz"), channels=1), store).digest
    write(folder, "drawn", "sample", num_images=6)
    imported = {"kind": "imported", "digest": digest}
    write(folder, "found", "evaluate", num_images=12, drift_images=6, timeline_steps=[2], dataset=imported)

    for job in ("drawn", "found"):
        ended = run(folder, job=job)
        assert ended.returncode == 0, ended.stderr

    drawn = Sampled.model_validate_json(store.get(JobKeys("drawn").results + RESULT))
    found = WeightsEvaluation.model_validate_json(store.get(JobKeys("found").results + RESULT))
    with zipfile.ZipFile(io.BytesIO(store.get(JobKeys("drawn").results + "images.zip"))) as archive:
        assert len(archive.namelist()) == 6 + 1
    assert drawn.weights == found.weights
    assert drawn.classes == (0, 1, 2)
    assert (found.reference, found.num_reference, found.labels) == (digest, 30, "as_images")
    assert {"FD-ENL0", "KD-ENL0", "loss", "gap_at_images", "gap_on_own_paths"} < {*found.measures}
