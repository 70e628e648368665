"""DDP's gradients are those of one process, whatever the estimator, in one pass or in several."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.support.distributed_step import ESTIMATORS


@pytest.fixture(scope="module")
def steps(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """What one process found in one pass, and others together, each in one pass or several."""
    two, three, four = (
        ("-m", "torch.distributed.run", f"--nproc-per-node={count}", "--standalone") for count in (2, 3, 4)
    )
    launchers = {
        "one": ((), ("1",)),
        "one, four passes": ((), ("1", "4")),
        "one of four": ((), ("4",)),
        "two": (two, ("2",)),
        "two, two passes": (two, ("2", "4")),
        "three of four": (three, ("4",)),
        "four": (four, ("4",)),
    }
    folders = {}
    for name, (launcher, passes) in launchers.items():
        folders[name] = tmp_path_factory.mktemp("step")
        subprocess.run(
            [sys.executable, *launcher, "-m", "tests.support.distributed_step", str(folders[name]), *passes],
            env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "error::FutureWarning,error::UserWarning"},
            timeout=100,
            check=True,
        )
    return folders


@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize(
    "split", ["one, four passes", "one of four", "two", "two, two passes", "three of four", "four"]
)
def test_gradients_do_not_depend_on_how_a_batch_is_split(steps: dict[str, Path], estimator: str, split: str) -> None:
    """To 1e-3 of each gradient, or 1e-4 of the largest in its tensor, with dropout, augmentation and label dropout."""
    alone, together = (load_file(steps[name] / f"{estimator}.safetensors") for name in ("one", split))

    assert alone.keys() == together.keys()
    for name, expected in alone.items():
        scale = float(expected.abs().max())
        assert torch.allclose(together[name], expected, rtol=1e-3, atol=1e-4 * scale + 1e-9), name
