"""What only a GPU shows: `make test-gpu`. Everything here is skipped where PyTorch sees none."""

import os

import pytest
import torch

os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read once in a process, maybe by a test before


@pytest.fixture(autouse=True)
def gpu() -> torch.device:
    if not torch.cuda.is_available():
        pytest.skip("PyTorch sees no GPU")
    torch.manual_seed(0)
    return torch.device("cuda", torch.cuda.current_device())
