"""Numbers that tests count, printed at the end so that they can be quoted."""

from collections.abc import Callable

import pytest

_COUNTED = pytest.StashKey[list[str]]()


@pytest.fixture
def tally(request: pytest.FixtureRequest, record_property: Callable[[str, object], None]) -> Callable[[str], None]:
    """Call it with a sentence."""

    def note(sentence: str) -> None:
        record_property("counted", sentence)
        request.config.stash.setdefault(_COUNTED, []).append(sentence)

    return note


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if counted := config.stash.get(_COUNTED, []):
        terminalreporter.section("counted")
        for sentence in counted:
            terminalreporter.write_line(sentence)
        counted.clear()  # another folder's conftest may have this hook, too
