"""Processes are started so that they die with us, and are found and ended to the last one."""

import os
import secrets
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from service.embedded import processes
from service.embedded.part import Part
from tests.support.waiting import wait_until

SLEEPER = "import time; time.sleep(600)"
# A part whose helper leaves its session and process group and ignores SIGTERM, as the worst of Ray's might.
STUBBORN = f"""
import subprocess, sys, time
subprocess.Popen([sys.executable, "-c", "import signal, time; signal.signal(15, signal.SIG_IGN); time.sleep(600)"],
                 start_new_session=True)
{SLEEPER}
"""


@pytest.fixture
def mark() -> Iterator[str]:
    mark = secrets.token_hex(8)
    yield mark
    processes.kill(mark)


def part(code: str, *, name: str = "part") -> Part:
    return Part(
        name=name,
        title=name,
        address="",
        command=(sys.executable, "-c", code),
        environment={"COLOUR": "red"},
        probes=(),
    )


def start(started: Part, mark: str, folder: Path) -> "subprocess.Popen[bytes]":
    return processes.start(
        started, environment={"PATH": os.environ["PATH"]}, mark=mark, log=folder / "log", folder=folder
    )


def count(mark: str) -> int:
    return sum(map(len, processes.marked(mark).values()))


def test_a_part_runs_in_a_session_of_its_own_and_writes_to_its_log(mark: str, tmp_path: Path) -> None:
    child = start(part("import os; print(os.environ['COLOUR'], os.getsid(0) == os.getpid())"), mark, tmp_path)

    assert child.wait(10) == 0
    assert (tmp_path / "log").read_text() == "red True\n"


def test_everything_of_a_stack_is_found_by_part_and_nothing_else(mark: str, tmp_path: Path) -> None:
    one = start(part(STUBBORN, name="one"), mark, tmp_path)
    two = start(part(SLEEPER, name="two"), mark, tmp_path)
    other = start(part(SLEEPER), secrets.token_hex(8), tmp_path)

    wait_until(lambda: count(mark) == 3)
    found = processes.marked(mark)
    processes.stop([one, two], mark=mark, grace_seconds=5)

    assert other.poll() is None
    other.kill()
    other.wait()
    assert [process.pid for process in found["two"]] == [two.pid]
    assert found["one"][0].pid == one.pid
    assert len(found["one"]) == 2


def test_stopping_ends_even_what_left_its_session_and_ignores_being_asked(mark: str, tmp_path: Path) -> None:
    child = start(part(STUBBORN), mark, tmp_path)
    wait_until(lambda: count(mark) == 2)

    processes.stop([child], mark=mark, grace_seconds=5)

    assert count(mark) == 0
    assert child.returncode == -signal.SIGTERM


def test_a_part_dies_with_its_killed_starter(mark: str, tmp_path: Path) -> None:
    code = f"""
from pathlib import Path
from tests.unit.embedded.test_processes import SLEEPER, part, start
start(part(SLEEPER), {mark!r}, Path({str(tmp_path)!r}))
{SLEEPER}
"""
    starter = subprocess.Popen([sys.executable, "-c", code], cwd=Path(__file__).parents[3])
    wait_until(lambda: count(mark) == 1)

    starter.kill()
    starter.wait()

    wait_until(lambda: count(mark) == 0, timeout_seconds=5)


def test_a_number_that_was_given_to_another_process_is_not_taken_for_the_first() -> None:
    pid, created_at = processes.identity()

    assert processes.is_alive(pid, created_at)
    assert not processes.is_alive(pid, created_at - 100)
