"""What all tests share."""

from tests.support.tally import pytest_terminal_summary, tally

__all__ = ["pytest_terminal_summary", "tally"]
