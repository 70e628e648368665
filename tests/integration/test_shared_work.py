"""An evaluation job on one process and on two: the same images, the same numbers."""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support.specs import smoke_spec
from tests.support.worker_command import run
from workers.contract.evaluation import Evaluation
from workers.contract.keys import RESULT, JobKeys
from workers.storage.local import LocalStore

pytestmark = pytest.mark.timeout(600)

TWO = (sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--standalone", "-m", "workers")
DRAWING = {"checkpoint": {"job_id": "job"}, "pass_images": 5, "sampler": {"steps": 2}}


def write(folder: Path, name: str, kind: str, *, workers: int, **fields: Any) -> None:
    compute = {"workers": workers, "accelerator": "cpu"}
    (folder / f"{name}.json").write_text(json.dumps({"kind": kind, "compute": compute, **DRAWING, **fields}))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With a job that was trained on sixty images."""
    folder = tmp_path_factory.mktemp("shared")
    pixels = np.random.default_rng(0).integers(0, 256, (60, 16, 16), dtype=np.uint8)
    np.savez(folder / "images.npz", images=pixels)
    spec = smoke_spec(
        dataset={"kind": "npz", "path": str(folder / "images.npz"), "channels": 1},
        network={"kind": "ddpmpp", "channels": 8, "channel_multipliers": [1]},
        compute={"workers": 1, "accelerator": "cpu"},
        duration_images=32,
        cadence={"log_images": 16, "checkpoint_images": 32},
    )
    (folder / "job.json").write_text(spec.model_dump_json())
    trained = run(folder)
    assert trained.returncode == 0, trained.stderr
    return folder


def test_two_processes_measure_what_one_does_to_the_last_bit(folder: Path) -> None:
    for name, workers in (("one", 1), ("two", 2)):
        fields = {"num_images": 13, "repeats": 2, "drift_images": 7, "timeline_steps": [2]}
        write(folder, name, "evaluate", workers=workers, **fields)
    store = LocalStore(folder / "runs")

    one, two = run(folder, job="one"), run(folder, job="two", launcher=TWO)

    assert one.returncode == 0, one.stderr
    assert two.returncode == 0, two.stderr
    results = [store.get(JobKeys(name).results + RESULT) for name in ("one", "two")]
    first, second = map(Evaluation.model_validate_json, results)
    assert first.measures == second.measures
    assert first.curves == second.curves
