"""The benchmark commands run, on networks too small to say anything, and leave the recorded results alone."""

import os
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

from tests.benchmarks.api.__main__ import obstacle


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", *arguments],
        capture_output=True,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        timeout=100,
        check=False,
    )


def test_step_cost_has_a_row_for_each_estimator(tmp_path: Path) -> None:
    page = tmp_path / "step_cost.md"

    done = run("tests.benchmarks.step_cost", "--tiny", "--repeats", "1", "--output", str(page))

    assert done.returncode == 0, done.stderr
    rows = [line.split("|")[1].strip() for line in page.read_text().splitlines() if line.startswith("|")]
    assert {"DSM", "symmetric, 1/4 of the batch", "asymmetric, 1/4", "target", "paper"} <= {*rows}


def test_what_a_gpu_is_measured_by_runs_without_one_if_told_to(tmp_path: Path) -> None:
    page, row = tmp_path / "gpu.md", "imagenet-64/bf16/as-written"

    done = run(
        *("tests.benchmarks.gpu", row, "checkpoints", "sampling", "--images", "8"),
        *("--tiny", "--device", "cpu", "--output", str(page)),
    )

    assert done.returncode == 0, done.stderr
    assert "| imagenet-64 | 32 | bf16 | as written |" in page.read_text()
    assert "stood still" in page.read_text()
    assert "Heun with 18 steps" in page.read_text()


def test_the_rest_interface_is_not_measured_by_half_where_there_is_no_postgres() -> None:
    assert "no Postgres: install it" in str(obstacle(None, postgres=None))
    assert obstacle("Postgres", postgres=None)
    assert obstacle("SQLite", postgres=None) is None
    assert obstacle(None, postgres=Path("/usr/lib/postgresql/17/bin")) is None


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (("runtime.__main__", "checkpoint"), "no part checkpoint; there are checkpoints, tracking, "),
        (("acceptance.__main__", "--seeds", "1"), "two or more"),
        (("acceptance.__main__", "--shorten", "50"), "give an --output"),
        (("runtime.__main__", "--repeats", "1"), "give an --output"),
        (("step_cost", "--tiny"), "give an --output"),
        (("gpu.__main__", "--tiny"), "give an --output"),
    ],
)
def test_what_measures_nothing_or_would_overwrite_recorded_results_is_refused(
    arguments: tuple[str, ...], why: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command, *options = arguments
    monkeypatch.setattr(sys, "argv", [command, *options])

    with pytest.raises(SystemExit) as refused:
        import_module(f"tests.benchmarks.{command}").main()

    assert refused.value.code == 2
    assert why in capsys.readouterr().err
