"""The lists of reasons are closed."""

import ast
from collections.abc import Iterator
from pathlib import Path

from service import jobs as package
from service.jobs.lifecycle import Intent
from service.jobs.queueing import BlockedReason
from service.jobs.reasons import CAUSES, CIRCUMSTANCES
from service.jobs.records import asked
from tests.support.jobs import NOW, job
from workers.contract.records import Reason

_PLACE = {"Move": 1, "_failed": 0}  # where calls have a reason, if not by name
PAGE = Path(__file__).parents[3] / "docs/reasons.md"
_NOT_SHOWN = {"not_started", ""}  # reasons of verdicts that are no failures


def test_everything_a_driver_can_say_is_a_cause() -> None:
    assert {reason.value for reason in Reason} <= set(CAUSES)


def test_every_cause_and_circumstance_says_what_it_means() -> None:
    assert all(cause.meaning for cause in CAUSES.values())
    assert all(CIRCUMSTANCES.values())


def test_the_page_about_reasons_has_all_of_them_as_they_are() -> None:
    causes, circumstances = (_rows(part) for part in PAGE.read_text().split("\n## ")[1:])

    assert [row[:4] for row in causes] == [
        [f"`{name}`", cause.meaning, cause.blame.value, "yes" if cause.retryable else "no"]
        for name, cause in CAUSES.items()
    ]
    assert all(row[4] for row in causes)
    assert {row[0].strip("`") for row in circumstances} == {*CIRCUMSTANCES, *(reason.value for reason in BlockedReason)}
    assert {row[0].strip("`"): row[1] for row in circumstances}.items() >= CIRCUMSTANCES.items()


def test_no_reason_stands_in_two_lists() -> None:
    lists = [set(CAUSES), set(CIRCUMSTANCES), {reason.value for reason in BlockedReason}]

    assert sum(map(len, lists)) == len(set().union(*lists))


def test_every_reason_that_is_written_in_the_code_is_in_a_list() -> None:
    folder = Path(package.__file__ or "").parent
    written = {reason for file in folder.glob("*.py") for reason in _reasons(ast.parse(file.read_text()))}

    assert {"driver_lost", "start_timeout", "worker_lost", "rebuilt"} <= written, "it finds them"
    assert written - _NOT_SHOWN <= {*CAUSES, *CIRCUMSTANCES}


def test_every_reason_for_which_a_job_is_asked_to_leave_is_in_a_list() -> None:
    for intent in Intent:
        reason = asked(job(), intent, at=NOW, grace=NOW - NOW).reason
        assert reason is None or reason in {*CAUSES, *CIRCUMSTANCES}


def _rows(text: str) -> list[list[str]]:
    """The cells of a table, without its head."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def _reasons(tree: ast.AST) -> Iterator[str]:
    """Texts that are passed as a reason."""
    for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
        name = getattr(call.func, "attr", None) or getattr(call.func, "id", "")
        given = [keyword.value for keyword in call.keywords if keyword.arg == "reason"]
        if name in _PLACE and len(call.args) > _PLACE[name]:
            given.append(call.args[_PLACE[name]])
        yield from (one.value for one in given if isinstance(one, ast.Constant) and isinstance(one.value, str))
