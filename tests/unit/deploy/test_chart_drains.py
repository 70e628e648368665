"""A worker's pod that Kubernetes ends asks Ray to drain its node first, and waits until nothing is left on it.

What jobs do then, on a real Ray, is in `tests/chaos/test_training_faults.py`.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.chart import pods, rendered

DRAIN_SECONDS = 20


@pytest.fixture
def hook() -> str:
    pod = pods(rendered("trial", **{"ray.drainSeconds": DRAIN_SECONDS}))["ray-cpu"]
    command: list[str] = pod["spec"]["containers"][0]["lifecycle"]["preStop"]["exec"]["command"]
    assert command[:2] == ["sh", "-c"]
    return command[2]


@pytest.fixture
def run(hook: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> "_Run":
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    return _Run(hook, tmp_path)


class _Run:
    """The hook among commands that write down how they were called."""

    def __init__(self, hook: str, folder: Path) -> None:
        self._hook, self._folder = hook, folder

    def __call__(self, *, looks: int, accepts: bool = True) -> "subprocess.CompletedProcess[str]":
        """`looks`: how often the raylet is found before it is gone."""
        self._command("grep", f'test "$(grep -c . {self._folder}/grep.log)" -le {looks}')
        self._command("ray", f"exit {int(not accepts)}")
        self._command("sleep", "exit 0")
        self._command("cut", f"cat {self._folder}/sleep.log 2>/dev/null | wc -l")  # each sleep is a second
        return subprocess.run(["/bin/sh", "-c", self._hook], capture_output=True, text=True, timeout=60, check=False)

    def calls(self, name: str) -> list[str]:
        log = self._folder / f"{name}.log"
        return log.read_text().splitlines() if log.exists() else []

    def _command(self, name: str, does: str) -> None:
        path = self._folder / name
        path.write_text(f'#!/bin/sh\necho "$*" >> {self._folder}/{name}.log\nPATH=/usr/bin:/bin\n{does}\n')
        path.chmod(0o755)


def test_ray_drains_the_node_and_the_pod_ends_when_it_is_empty(run: _Run) -> None:
    answer = run(looks=4)

    assert answer.returncode == 0
    (drain,) = run.calls("ray")
    assert drain.startswith(f"drain-node --deadline-remaining-seconds={DRAIN_SECONDS} ")
    assert len(run.calls("sleep")) == 3


def test_a_node_that_ray_has_ended_already_asks_nobody(run: _Run) -> None:
    answer = run(looks=0)

    assert answer.returncode == 0
    assert not run.calls("ray")


def test_a_pod_that_finds_no_head_ends_at_once(run: _Run) -> None:
    answer = run(looks=1000, accepts=False)

    assert answer.returncode == 1
    assert not run.calls("sleep")


def test_a_node_that_stays_busy_is_given_up_after_its_deadline(run: _Run) -> None:
    answer = run(looks=1000)

    assert answer.returncode == 1
    assert answer.stderr == "the node is not empty\n"
    assert len(run.calls("sleep")) == DRAIN_SECONDS + 15


def test_ray_has_the_command_which_it_does_not_promise_to_keep(hook: str) -> None:
    ray = str(Path(sys.executable).with_name("ray"))
    told = subprocess.run([ray, "drain-node", "--help"], capture_output=True, text=True, timeout=60, check=True).stdout
    (command,) = re.findall(r"ray drain-node(.*?)\|\|", hook, re.DOTALL)

    for option in re.findall(r"--[a-z-]+|DRAIN_NODE_REASON_\w+", command):
        assert option in told


def test_kubernetes_waits_longer_than_the_pod_takes(hook: str) -> None:
    drained = pods(rendered("trial", **{"ray.drainSeconds": DRAIN_SECONDS}))
    longest_seconds = sum(map(int, re.findall(r"(?:KILL|\+) (\d+)", hook)))
    ending_seconds = 10

    assert longest_seconds > DRAIN_SECONDS
    assert drained["ray-cpu"]["spec"]["terminationGracePeriodSeconds"] >= longest_seconds + ending_seconds
    assert "lifecycle" not in drained["ray-head"]["spec"]["containers"][0], "its jobs end with it in any case"
