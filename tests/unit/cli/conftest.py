"""A `cdm` that knows of no stack and no service but those it is told of."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.command import Command
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
    return {
        "job_id": "job_by",
        "checkpoint": {"job_id": "job_of", "images_seen": 160_000, "average": "ema"},
        "checkpoint_seal": None,
        "features": "lite0",
        "features_fingerprint": "c0ffee" + "0" * 58,
        "reference": "1" * 64,
        "num_reference": 160,
        "num_images": 5000,
        "repeats": 3,
        "first_seed": 0,
        "sampler": {},
        "measures": {
            "FD-ENL0": {"value": 12.3456, "blocks": [12.0, 12.3, 12.7], "standard_error": 0.21, "floor": 1.5},
            "recall": {"value": 0.5},
        },
        "curves": {},
        "versions": {"torch": "2"},
        "files": ["drift.png"],
        "ended_at": "2026-11-01T12:00:00Z",
    }
