"""A service and workers of different releases: what one does not know of the other is said, and not tried for ever."""

import json
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from structlog.testing import capture_logs

from tests.support.specs import smoke_spec
from workers.__main__ import EXIT_USAGE, main
from workers.contract.document import read_leniently
from workers.contract.keys import JobKeys
from workers.contract.records import Outcome, Progress, Reason
from workers.storage import open_store

KEYS = JobKeys("job_1")


def run_main(folder: Path, document: dict[str, Any], monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    open_store(folder.as_uri()).put(KEYS.spec, json.dumps(document).encode())
    monkeypatch.setattr(sys, "argv", ["workers", f"{folder.as_uri()}/jobs/job_1/spec.json", *arguments])
    monkeypatch.setattr("workers.__main__.configure_logging", lambda: None)
    with capture_logs():
        return main()


def test_a_document_of_a_later_release_fails_the_attempt_for_good_and_names_the_field(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    document = smoke_spec().model_dump(mode="json")
    document["optimizer"]["novel"] = 3

    assert run_main(tmp_path, document, monkeypatch, "--attempt", "3") == EXIT_USAGE

    store = open_store(tmp_path.as_uri())
    outcome = Outcome.model_validate_json(store.get(KEYS.attempt(3).outcome))
    assert (outcome.status, outcome.reason) == ("failed", Reason.INVALID_SPEC)
    assert "another release" in outcome.message
    assert "optimizer.novel: unknown field" in outcome.message
    assert store.get(KEYS.attempt(3).claim)
    assert "optimizer.novel: unknown field" in capsys.readouterr().err


def test_who_runs_a_job_by_hand_is_told_and_nothing_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_main(tmp_path, {"kind": "novel"}, monkeypatch) == EXIT_USAGE

    assert open_store(tmp_path.as_uri()).list(KEYS.root) == [KEYS.spec]
    assert "kind" in capsys.readouterr().err


def test_a_reason_of_a_later_release_is_a_failure_all_the_same() -> None:
    text = Outcome(
        status="failed",
        reason=Reason.DATA_ERROR,
        message="it rains",
        images_seen=160,
        mlflow_run_id=None,
        ended_at=datetime(2026, 11, 1, tzinfo=UTC),
    ).model_dump_json()

    outcome = read_leniently(Outcome, text.replace("data_error", "rain"))

    assert outcome is not None
    assert (outcome.status, outcome.reason, outcome.message) == ("failed", Reason.INTERNAL, "it rains")


def test_a_phase_of_a_later_release_is_a_sign_of_life_and_workers_themselves_write_none() -> None:
    document = {
        "phase": "dreaming",
        "images_seen": 160,
        "total_images": 320,
        "images_per_second": 1.0,
        "eta_seconds": None,
        "losses": {},
        "last_checkpoint_images": None,
        "num_workers": 1,
        "mlflow_run_id": None,
        "updated_at": "2026-11-01T00:00:00Z",
    }

    progress = read_leniently(Progress, json.dumps(document))

    assert progress is not None
    assert (progress.phase, progress.images_seen) == ("checkpointing", 160)
    with pytest.raises(ValidationError, match="phase"):
        Progress.model_validate_json(json.dumps(document))
    assert read_leniently(Progress, json.dumps(document | {"phase": 3})) is None
