"""Mistakes end in one line that says what to do, and an exit code."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from service.embedded.documents import Connection
from tests.support.command import Command

NOWHERE = ("--url", "http://127.0.0.1:1", "--key", "k")  # what is misused need not be asked


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ((), 2, r"Missing command. \(see `cdm --help`\)"),
        (("admin",), 2, r"Missing command. \(see `cdm admin --help`\)"),
        (("keys", "revoke"), 2, r"Missing argument 'KEY'. \(see `cdm keys revoke --help`\)"),
        (("train",), 2, "No such command 'train'."),
        (("submit",), 2, "there is nothing to submit: give a preset or a file, or --like JOB"),
        (("jobs", "--state", "happy"), 2, "Invalid value for '--state'"),
        (("jobs",), 1, "there is no stack in .*/home: start one with `cdm up`, or name a service with --url and --key"),
        (("jobs", "--url", "localhost:8400"), 2, "--url localhost:8400 is no address: give http://localhost:8400"),
        (("jobs", "--url", "http://cdm.test"), 2, "there is no key for http://cdm.test: give --key"),
        (("submit", "smoke", "--set", "seed=-1"), 1, "1 field is wrong: seed: "),
        (("quickstart", "-o", "missing/grid.png"), 1, "cannot write missing/grid.png: there is no folder .*/missing"),
        (("submit", "smoke", "--set", "seed"), 2, "--set seed: write it as key=value"),
        (("submit", "smoke", "--set", "seed.x=1"), 2, "--set seed.x=1: seed is a single value and has no fields"),
        (("submit", "smoke", "--set", "seed={"), 2, "--set seed={: the value is not YAML"),
        (("submit", "smoke", "--label", "x", *NOWHERE), 2, "--label x: write it as key=value"),
        (("submit", "smoke", "--max-runtime", "soon", *NOWHERE), 2, "'soon' is no duration"),
        (("submit", "smoke", "--control", "edm", *NOWHERE), 2, "--control: a control is compared by evaluations"),
        (("submit", "smoke", "--like", "latest", *NOWHERE), 1, "cannot reach"),
        (("jobs", "--metric", "a", "--all-projects", *NOWHERE), 2, "--metric: metrics are of one project"),
        (("update", "latest", *NOWHERE), 2, "nothing is to be changed"),
        (("projects", "set", "a", *NOWHERE), 2, "say what is to change"),
        (("projects", "set", "a", "--max-jobs", "many", *NOWHERE), 2, "'many' is no limit"),
        (("import", "images.tiff", *NOWHERE), 2, "nothing here tells the format of"),
        (("images", "latest", "--at", "1", "--all", *NOWHERE), 2, "--at and --all: give one of them"),
        (("sample", *NOWHERE), 2, "Invalid value: say what to draw from"),
        (("show", "latest", *NOWHERE), 1, "cannot reach"),
        (("presets", "giant"), 2, "there is no preset 'giant': there are fashion16, smoke"),
    ],
)
def test_a_mistake_is_one_line_and_a_code(cdm: Command, arguments: tuple[str, ...], code: int, message: str) -> None:
    answer = cdm(*arguments)

    assert answer.code == code
    assert answer.out == ""
    assert answer.err.count("\n") == 1
    assert re.match(f"error: {message}", answer.err), answer.err


def test_a_stack_that_is_down_is_an_invitation_to_start_it(cdm: Command, tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    Connection(url="http://127.0.0.1:1", api_key="k").write(tmp_path / "home" / "connection.json")

    answer = cdm("jobs")

    assert answer.code == 1
    assert answer.err == "error: the stack at http://127.0.0.1:1 does not answer: start it with `cdm up`\n"


def test_commands_that_an_answer_names_have_the_options_that_say_where(cdm: Command, tmp_path: Path) -> None:
    other = tmp_path / "my other"
    other.mkdir()
    Connection(url="http://127.0.0.1:1", api_key="k").write(other / "connection.json")

    assert cdm("jobs", "--home", "my other", "--project", "a").err.endswith(
        f"start it with `cdm up --home '{other}'`\n"
    )
    assert cdm("jobs", "--home", str(tmp_path / "home")).err.endswith(
        "start one with `cdm up`, or name a service with --url and --key\n"
    )


def test_status_and_down_of_a_stack_that_never_was_say_so(cdm: Command, tmp_path: Path) -> None:
    status, down = cdm("status"), cdm("down", "--json")

    assert (status.code, status.out) == (3, "no stack was started yet\n")
    assert down.document == {"stopped": False}
    assert not (tmp_path / "home").exists()


@pytest.mark.parametrize("arguments", [("presets",), ("presets", "smoke"), ("presets", "--json")])
def test_a_disk_that_is_full_is_one_line(arguments: tuple[str, ...]) -> None:
    """In a process of its own: what is left to be written is when it ends."""
    with Path("/dev/full").open("w") as full:
        ended = subprocess.run(
            [sys.executable, "-m", "service.cli", *arguments],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )

    assert (ended.returncode, ended.stderr) == (1, "error: cannot read or write: No space left on device\n")


@pytest.mark.parametrize("group", ["", "admin", "datasets", "keys", "projects", "uploads", "webhooks"])
def test_what_a_command_does_is_said_in_a_line_of_a_narrow_terminal(
    cdm: Command, group: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")

    answer = cdm(*group.split(), "--help")

    assert answer.out.startswith("Usage: cdm ")
    assert "..." not in answer.out.replace("[ARGS]...", "")


def test_the_command_does_not_wait_for_heavy_packages() -> None:
    """A fresh interpreter, since this one has imported everything."""
    heavy = ("torch", "ray", "fastapi", "sqlalchemy", "boto3", "mlflow", "numpy", "psutil", "rich")
    code = f"import sys, service.cli; print([name for name in {heavy} if name in sys.modules])"

    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert found.stdout.strip() == "[]"
