"""What all tests share."""

import pytest

from tests.support.tally import pytest_terminal_summary, tally

__all__ = ["pytest_collection_modifyitems", "pytest_terminal_summary", "tally"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the many short tests of the service last: a long file begun last would run alone at the end."""
    items.sort(key=lambda item: "service" in item.path.parts)
