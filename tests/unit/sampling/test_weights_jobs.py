"""Sample and evaluation jobs of a file of weights: what they draw and find is what they would of its checkpoint."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch

from tests.support.drawn import TRAINED, Gallery
from tests.support.uploads import UPLOAD, uploaded
from workers.contract.data import DatasetManifest, NpzDataset
from workers.contract.document import SpecError
from workers.contract.evaluation import Evaluation, WeightsEvaluation
from workers.contract.features import Lite0
from workers.contract.keys import JobKeys
from workers.contract.sampling import Sampled
from workers.data import import_dataset
from workers.evaluation.features import open_features
from workers.tools.export import chosen, export

SMALL = {"num_images": 12, "pass_images": 8, "drift_images": 6, "timeline_steps": [2], "sampler": {"steps": 2}}


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Gallery:
    folder = tmp_path_factory.mktemp("small")
    pixels = np.random.default_rng(0).integers(0, 256, (60, 16, 16), dtype=np.uint8)
    np.savez(folder / "images.npz", images=pixels)
    return Gallery("of-weights", folder, dataset={"kind": "npz", "path": str(folder / "images.npz"), "channels": 1})


@pytest.fixture(scope="module")
def weights(small: Gallery) -> Path:
    """Of the last checkpoint."""
    output = small.cache / "exported"
    export(chosen(f"memory://{small.name}/jobs/{TRAINED}", output), output)
    return output / "weights.safetensors"


def of(weights: Path | str, **fields: Any) -> dict[str, Any]:
    return {"checkpoint": None, "weights": str(weights), **fields}


def dataset(gallery: Gallery) -> dict[str, str]:
    manifest = DatasetManifest.model_validate_json(gallery.store.get(JobKeys(TRAINED).dataset))
    return {"kind": "imported", "digest": manifest.digest}


def test_a_file_draws_what_its_checkpoint_draws_with_the_sampler_of_the_training(small: Gallery, weights: Path) -> None:
    small.run("by-checkpoint", "sample", archive="npz", num_images=4)
    small.run("by-file", "sample", archive="npz", num_images=4, **of(weights))

    drawn = Sampled.model_validate_json(small.result("by-file"))
    assert np.array_equal(small.images("by-file"), small.images("by-checkpoint"))
    assert drawn.sampler == Sampled.model_validate_json(small.result("by-checkpoint")).sampler
    assert drawn.weights
    assert (drawn.checkpoint, drawn.checkpoint_seal, drawn.weights.location) == (None, None, str(weights))
    assert small.store.list(JobKeys("by-file").pieces) == []


@pytest.mark.parametrize("place", [UPLOAD, "https://example.org/edm.safetensors"])
def test_it_may_be_an_upload_or_what_the_web_had(small: Gallery, weights: Path, place: str) -> None:
    name = "by-upload" if place == UPLOAD else "by-url"
    uploaded(weights.read_bytes(), into=small.store, part_bytes=100_000)
    small.store.put(JobKeys(name).brought(place), weights.read_bytes())

    small.run(name, "sample", archive=None, num_images=1, sampler={"steps": 2}, **of(place))

    drawn = Sampled.model_validate_json(small.result(name)).weights
    assert drawn
    assert drawn.location == place


def test_a_file_is_measured_as_its_checkpoint_and_joins_nothing(small: Gallery, weights: Path) -> None:
    small.run("checkpoint-found", "evaluate", **SMALL)
    small.run("file-found", "evaluate", **SMALL, **of(weights, dataset=dataset(small)))

    found = WeightsEvaluation.model_validate_json(small.result("file-found"))
    same = Evaluation.model_validate_json(small.result("checkpoint-found"))
    assert (found.measures, found.curves, found.weighting) == (same.measures, same.curves, same.weighting)
    assert found.weights.location == str(weights)
    joined = small.store.list(JobKeys(TRAINED).evaluations)
    assert [key.rpartition("/")[2] for key in joined] == ["checkpoint-found.json"]


def test_published_statistics_do_without_images(
    small: Gallery, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the features that come with the package in place of Inception, whose weights do not."""
    lite = open_features(Lite0(kind="lite0"))
    monkeypatch.setattr("workers.jobs.evaluate.open_features", lambda *_, **__: lite)
    np.savez(tmp_path / "mu.npz", mu=np.zeros(lite.dimensions), sigma=np.eye(lite.dimensions))
    inception = {"kind": "inception", "weights": "/data/inception.pth", "sha256": "0" * 64}
    fields = SMALL | {"drift_images": 0, "features": inception, "reference": str(tmp_path / "mu.npz")}

    small.run("published", "evaluate", **fields, **of(weights))

    found = WeightsEvaluation.model_validate_json(small.result("published"))
    assert {*found.measures} == {"FD-Inception"}
    assert found.curves == {}
    assert {*found.files} == {"grid.png", "timeline.png"}


def test_a_file_that_was_changed_while_the_job_went_on_is_not_mixed_with_the_one_that_it_began_with(
    small: Gallery, weights: Path, tmp_path: Path
) -> None:
    path = tmp_path / "weights.safetensors"
    path.write_bytes(weights.read_bytes())
    small.run("changed", "sample", looks=1, num_images=4, pass_images=2, **of(path))
    path.write_bytes(path.read_bytes()[:-1] + b"!")

    with pytest.raises(SpecError, match=r"weights: .* is not the file any more that the job began with"):
        small.run("changed", "sample", num_images=4, pass_images=2, **of(path))


def test_what_cannot_be_drawn_or_measured_is_refused_before_anything_is(
    small: Gallery, weights: Path, tmp_path: Path
) -> None:
    safetensors.torch.save_file({"a": torch.zeros(1)}, tmp_path / "others.safetensors")
    path = tmp_path / "wide.npz"
    np.savez(path, images=np.arange(20 * 32 * 32, dtype=np.uint32).reshape(20, 32, 32).astype(np.uint8))
    wide = import_dataset(NpzDataset(kind="npz", path=str(path), channels=1), small.store).digest
    refused: list[tuple[str, dict[str, Any], str]] = [
        ("sample", of("/nowhere"), "weights: there is no /nowhere"),
        ("sample", of(tmp_path / "others.safetensors"), "weights: .* is not a weights file: snapshots of EDM and CDM"),
        ("sample", of(weights, classes=[1]), "classes: .*weights.safetensors trains without classes; leave it out"),
        ("sample", of(weights, sampler={"guidance": 2.0}), "sampler.guidance: .* never trains without classes"),
        (
            "evaluate",
            of(weights, dataset={"kind": "imported", "digest": wide}),
            "dataset.digest: its images are 32 pixels wide, of 1 channels, the network takes them 16 pixels wide",
        ),
        (
            "evaluate",
            of(weights, dataset={"kind": "imported", "digest": "0" * 64}),
            "dataset.digest: there is no image set 000",
        ),
    ]

    for number, (kind, fields, message) in enumerate(refused):
        with pytest.raises(SpecError, match=message):
            small.run(f"refused{number}", kind, **fields)
        assert small.store.list(JobKeys(f"refused{number}").results) == []
