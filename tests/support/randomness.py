"""Random numbers that are the same each time; a conftest imports this."""

import pytest
import torch


@pytest.fixture(autouse=True)
def same_random_numbers() -> None:
    """So that a test's draws depend neither on the tests before it nor on how they are spread over processes."""
    torch.manual_seed(0)
