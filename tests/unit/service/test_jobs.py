"""Small truths: ids, admission, pieces of a log, settings."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from service.jobs.admission import admit
from service.jobs.identifiers import new_job_id
from service.jobs.logs import cut
from service.jobs.records import JobRecord
from service.jobs.views import JobState
from service.settings import Settings

NOW = datetime(2026, 11, 1, tzinfo=UTC)


def job(number: int, state: JobState) -> JobRecord:
    return JobRecord(id=f"job_{number:02}", name=None, state=state, spec="{}", spec_sha256="", created_at=NOW)


@given(st.integers(1, 10**9), st.integers(1, 10**9))
def test_job_ids_sort_by_time(first_ms: int, later_ms: int) -> None:
    first = new_job_id(at=NOW + timedelta(milliseconds=first_ms))
    later = new_job_id(at=NOW + timedelta(milliseconds=first_ms + later_ms))

    assert first < later
    assert len(first) == len("job_") + 26


@given(st.lists(st.sampled_from([state for state in JobState if not state.is_terminal])), st.integers(1, 5))
def test_admission_fills_what_is_free_with_the_oldest(states: list[JobState], max_active: int) -> None:
    jobs = [job(number, state) for number, state in enumerate(states)]
    queued = [one.id for one in jobs if one.state is JobState.QUEUED]
    active = len(jobs) - len(queued)

    admitted = admit(jobs, max_active=max_active)

    assert admitted == set(queued[: max(0, max_active - active)])


@given(st.text(max_size=50), st.integers(0, 30))
def test_pieces_of_a_log_join_to_the_whole(text: str, repeat: int) -> None:
    data = ("é€𝄞" + text).encode() * (repeat * 3000)
    joined, offset, complete = "", 0, False
    while not complete:
        piece = cut(data, attempt=1, offset=offset, final=True)
        joined, offset, complete = joined + piece.text, piece.next_offset, piece.complete

    assert joined == data.decode()


def test_a_log_that_may_still_grow_is_never_complete() -> None:
    piece = cut(b"so far", attempt=1, offset=0, final=False)

    assert (piece.text, piece.next_offset, piece.complete) == ("so far", 6, False)


def test_settings_come_from_the_environment_and_show_no_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = {"API_KEY": "a-key-of-some-length", "STORE_URL": "memory://x", "RAY_URL": "memory://x"}
    for name, value in {**given, "MLFLOW_URL": "http://mlflow", "STATE_FOLDER": str(tmp_path)}.items():
        monkeypatch.setenv(f"CDM_{name}", value)

    settings = Settings()

    assert settings.database_url == f"sqlite+aiosqlite:///{tmp_path}/service.db"
    assert settings.mlflow_public_url == "http://mlflow"
    assert "a-key-of-some-length" not in repr(settings)
    with pytest.raises(ValidationError, match="frozen"):
        settings.local_paths = True  # type: ignore[misc]


def test_every_setting_is_described() -> None:
    assert all(field.description for field in Settings.model_fields.values())
