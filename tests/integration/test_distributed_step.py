"""DDP's gradients are those of one process, whatever the estimator, in one pass or in several."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.support.distributed_step import ESTIMATORS, Layout

ALONE = Layout(processes=1, workers=1, microbatch_images=16)
SPLITS = {
    "one, four passes": Layout(processes=1, workers=1, microbatch_images=4),
    "one that is left of four": Layout(processes=1, workers=4, microbatch_images=4),
    "two": Layout(processes=2, workers=2, microbatch_images=8),
    "two, two passes": Layout(processes=2, workers=2, microbatch_images=4),
    "three that are left of four": Layout(processes=3, workers=4, microbatch_images=4),
    "four": Layout(processes=4, workers=4, microbatch_images=4),
}


@pytest.fixture(scope="module")
def steps(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What one process found in one pass, and others together, each in one pass or several."""
    folder = tmp_path_factory.mktemp("steps")
    layouts = map(str, (ALONE, *SPLITS.values()))
    subprocess.run(
        [sys.executable, "-m", "tests.support.distributed_step", str(folder), *layouts],
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "error::FutureWarning,error::UserWarning"},
        timeout=300,
        check=True,
    )
    return folder


@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("split", SPLITS)
def test_gradients_do_not_depend_on_how_a_batch_is_split(steps: Path, estimator: str, split: str) -> None:
    """To 1e-3 of each gradient, or 1e-4 of the largest in its tensor, with dropout, augmentation and label dropout."""
    alone, together = (load_file(steps / str(layout) / f"{estimator}.safetensors") for layout in (ALONE, SPLITS[split]))

    assert alone.keys() == together.keys()
    for name, expected in alone.items():
        scale = float(expected.abs().max())
        assert torch.allclose(together[name], expected, rtol=1e-3, atol=1e-4 * scale + 1e-9), name


def test_what_several_processes_compile_is_cut_where_they_exchange_gradients_before_the_first_step() -> None:
    """And takes the same steps, also those where the term begins."""
    subprocess.run(
        [sys.executable, "-m", "tests.support.compiled_step"],
        env=os.environ | {"OMP_NUM_THREADS": "1", "TORCHINDUCTOR_COMPILE_THREADS": "1"},
        timeout=300,
        check=True,
    )
