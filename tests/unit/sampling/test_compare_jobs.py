"""Comparison jobs: a training beside the same one without the consistency term."""

from pathlib import Path

import numpy as np
import pytest

from tests.support.drawn import TRAINED, Gallery
from tests.support.trained import tiny_spec, train_job
from workers.contract.comparing import Comparison
from workers.contract.keys import JobKeys
from workers.jobs.failures import SpecMismatchError

SMALL = {"num_images": 8, "pass_images": 8, "drift_images": 4, "timeline_steps": [2], "sampler": {"steps": 2}}


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Gallery:
    """The same training twice, once with another learning rate."""
    folder = tmp_path_factory.mktemp("pair")
    gallery = Gallery("pair", folder, dataset=_tiny_images(folder))
    other = tiny_spec(optimizer={"learning_rate": 0.01}, dataset=_tiny_images(folder))
    train_job(other, gallery.store, JobKeys("other"), cache=gallery.cache, every=80)
    return gallery


def _tiny_images(folder: Path) -> dict[str, object]:
    path = folder / "images.npz"
    np.savez(path, images=np.random.default_rng(0).integers(0, 256, (40, 16, 16), dtype=np.uint8))
    return {"kind": "npz", "path": str(path), "channels": 1}


def compare(gallery: Gallery, job_id: str) -> None:
    gallery.run(job_id, "compare", spec={"job_id": TRAINED, "control_job_id": "other"})


def test_two_trainings_without_evaluations_cannot_be_compared(pair: Gallery) -> None:
    with pytest.raises(SpecMismatchError, match=f"job_id: {TRAINED} has not been evaluated"):
        compare(pair, "early")


def test_a_comparison_says_in_what_they_differ_and_by_how_much(pair: Gallery) -> None:
    pair.run("first", "evaluate", **SMALL)
    with pytest.raises(SpecMismatchError, match="control_job_id: other has not been evaluated at the same images"):
        compare(pair, "half")
    pair.run("second", "evaluate", **SMALL | {"checkpoint": {"job_id": "other"}})

    compare(pair, "whole")

    found = Comparison.model_validate_json(pair.result("whole"))
    assert found.differences == {"optimizer.learning_rate": (0.01, 0.02)}
    assert not found.is_paired
    assert {(each.at, each.images_seen) for each in found.pairs} == {("images", 160)}
    intervals = {each.measure: each.high is not None for each in found.pairs}
    assert intervals.items() >= {"FD-ENL0": False, "KD-ENL0": True, "loss": True, "gap_on_own_paths": True}.items()
    page = pair.file("whole", "report.html").decode()
    assert page.count("data:image/png;base64,") == 7  # the plot, and three pictures of each
    assert "not all of a difference is due to it" in page
