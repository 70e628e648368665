"""What all tests share."""

import os

import pytest

from tests.support.terminal_summary import pytest_terminal_summary, summarize

__all__ = ["pytest_collection_modifyitems", "pytest_terminal_summary", "summarize"]

_OF_TESTS = {"CDM_CACHE", "CDM_CONTRACT_EXAMPLES"}


def pytest_configure() -> None:
    """Forget the service and the settings that the shell names: tests and what they start would take them."""
    for name in os.environ.keys() - _OF_TESTS:
        if name.startswith("CDM_"):
            del os.environ[name]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the many short tests of the service last: a long file begun last would run alone at the end."""
    items.sort(key=lambda item: "service" in item.path.parts)
