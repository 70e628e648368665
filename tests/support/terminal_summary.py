"""Numbers that tests count, printed at the end so that they can be quoted."""

from collections.abc import Callable

import pytest

_COUNTED = "counted"


@pytest.fixture
def summarize(record_property: Callable[[str, object], None]) -> Callable[[str], None]:
    """Call it with a sentence."""

    def note(sentence: str) -> None:
        record_property(_COUNTED, sentence)

    return note


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """A test's properties come with its report, from other processes, too."""
    reports = [report for reports in terminalreporter.stats.values() for report in reports]
    properties = [each for report in reports for each in getattr(report, "user_properties", ())]
    if counted := list(dict.fromkeys(str(value) for name, value in properties if name == _COUNTED)):
        terminalreporter.section(_COUNTED)
        for sentence in counted:
            terminalreporter.write_line(sentence)
