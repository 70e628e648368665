"""A `cdm` that knows of no stack and no service but those it is told of."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.command import Command
from tests.support.findings import evaluation_of
from tests.support.served import Service, served


@pytest.fixture
def cdm(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Command:
    monkeypatch.setenv("CDM_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    return Command(monkeypatch, capsys)


@pytest.fixture
def service(cdm: Command, tmp_path: Path) -> Iterator[Service]:
    with served(cdm, tmp_path) as service:
        yield service


@pytest.fixture
def evaluation() -> dict[str, Any]:
    """What an evaluation job has found, as JSON."""
    found = evaluation_of(
        160_000,
        of="job_of",
        job_id="job_by",
        features_fingerprint="c0ffee" + "0" * 58,
        num_images=5000,
        repeats=3,
        measures={
            "FD-ENL0": {"value": 12.3456, "blocks": [12.0, 12.3, 12.7], "standard_error": 0.21, "floor": 1.5},
            "recall": {"value": 0.5},
        },
        files=("drift.png",),
    )
    return found.model_dump(mode="json")
