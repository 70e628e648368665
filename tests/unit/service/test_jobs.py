"""Small truths: ids, pieces of a log, events of conditions, settings."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from service.identifiers import new_id
from service.jobs.lifecycle import Intent, JobState
from service.jobs.logs import cut, tail_start
from service.jobs.records import asked, condition_events, moved, new_attempt, with_condition
from service.settings import Settings
from tests.support.jobs import LONG_AGO, job

NOW = datetime(2026, 11, 1, tzinfo=UTC)


@given(st.integers(1, 10**9), st.integers(1, 10**9))
def test_ids_sort_by_time_and_say_what_they_are(first_ms: int, later_ms: int) -> None:
    first = new_id("job", at=NOW + timedelta(milliseconds=first_ms))
    later = new_id("job", at=NOW + timedelta(milliseconds=first_ms + later_ms))

    assert first < later
    assert len(first) == len("job_") + 26


@settings(deadline=None)
@given(st.text(max_size=50), st.integers(0, 20), st.integers(0, 20))
def test_pieces_of_a_log_join_to_the_whole(text: str, first: int, second: int) -> None:
    """The stream lies in two chunks, which end where a line ends."""
    line = ("é€𝄞" + text).encode()
    before, after = line * (first * 3000), line * (second * 3000)
    chunks = {0: before, len(before): after}
    joined, offset, complete = "", 0, False
    while not complete:
        start = max(start for start in chunks if start <= offset)
        is_last = start == max(chunks)
        piece = cut(chunks[start], attempt=1, source="driver", offset=offset, start=start, final=is_last)
        joined, offset, complete = joined + piece.text, piece.next_offset, piece.complete

    assert joined == (before + after).decode()


@given(st.lists(st.text("ab\n", max_size=3), max_size=6), st.integers(1, 8))
def test_the_tail_of_a_log_is_its_last_lines_also_without_an_end(parts: list[str], lines: int) -> None:
    data = "".join(parts).encode()

    assert data[tail_start(data, lines) :] == b"".join(data.splitlines(keepends=True)[-lines:])


@pytest.mark.parametrize("line", [b"x" * 1000 + b"\n", b"x" * (3 << 20)])
def test_of_a_tail_an_answer_holds_a_megabyte_and_whole_lines_if_it_can(line: bytes) -> None:
    data = line * 3000 if len(line) < 2000 else line

    tail = data[tail_start(data, 2000) :]

    assert (1 << 20) - len(line) < len(tail) <= 1 << 20
    assert len(tail) % len(line) == 0 or len(tail) == 1 << 20


def test_a_log_that_may_still_grow_is_never_complete() -> None:
    piece = cut(b"so far", attempt=1, source="driver", offset=0, start=0, final=False)

    assert (piece.text, piece.next_offset, piece.complete) == ("so far", 6, False)


def test_an_offset_behind_the_end_of_a_log_stays_where_it_is() -> None:
    piece = cut(b"so far", attempt=1, source="driver", offset=100, start=0, final=True)

    assert (piece.text, piece.next_offset, piece.complete) == ("", 100, True)


def test_an_attempt_that_is_written_down_again_is_known_by_its_nonce() -> None:
    first = new_attempt("job_1", 1, service="us", at=LONG_AGO)
    again = new_attempt("job_1", 1, service="us", at=NOW)

    assert first.nonce == again.nonce
    assert first.nonce != new_attempt("job_1", 2, service="us", at=NOW).nonce
    assert first.nonce != new_attempt("job_1", 1, service="them", at=NOW).nonce


@pytest.mark.parametrize("state", [state for state in JobState if not state.is_active])
def test_of_a_job_that_rests_nothing_is_asked_any_more(state: JobState) -> None:
    leaving = asked(job(mlflow_run_id="run1"), Intent.PREEMPT, at=NOW, grace=timedelta(seconds=60))

    rests = moved(leaving, to=state, at=NOW, reason=None, message=None)

    assert (rests.intent, rests.stop_by) == (None, None)
    assert (rests.ended_at, rests.mlflow_due_until is not None) == ((NOW, True) if state.is_terminal else (None, False))
    assert rests.queued_at == (NOW if state is JobState.QUEUED else None)


@pytest.mark.parametrize(
    ("intent", "queued_at"), [(Intent.PREEMPT, LONG_AGO), (Intent.PAUSE, NOW), (Intent.RESTART, NOW)]
)
def test_who_made_room_for_another_keeps_its_place_in_the_queue(intent: Intent, queued_at: datetime) -> None:
    leaving = asked(job(queued_at=LONG_AGO), intent, at=NOW, grace=timedelta(seconds=60))

    waiting = moved(leaving, to=JobState.QUEUED, at=NOW, reason="preempted", message=None)

    assert waiting.queued_at == queued_at


def test_a_condition_is_told_of_when_it_turns_and_dated_from_then() -> None:
    fine = with_condition(job(), "Heartbeating", status=True, message=None, at=LONG_AGO)
    lost = with_condition(fine, "Heartbeating", status=False, message=None, at=NOW)
    still = with_condition(lost, "Heartbeating", status=False, message="longer", at=NOW + timedelta(hours=1))

    assert condition_events(job(), fine) == [], "that all is well is no news"
    assert condition_events(fine, lost) == ["heartbeat_lost"]
    assert condition_events(lost, still) == []
    assert still.conditions["Heartbeating"].since == NOW
    assert condition_events(still, fine) == ["heartbeat_back"]


def test_settings_come_from_the_environment_and_show_no_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = {
        "API_KEY": "a-key-of-some-length",
        "STORE_URL": "memory://x",
        "RAY_URL": "memory://x",
        "MLFLOW_URL": "http://mlflow",
        "STATE_FOLDER": str(tmp_path),
        "RETRIES__PLATFORM": "3",
    }
    for name, value in given.items():
        monkeypatch.setenv(f"CDM_{name}", value)

    settings = Settings()

    assert settings.database_url == f"sqlite:///{tmp_path}/service.db"
    assert settings.mlflow_public_url == "http://mlflow"
    assert settings.retries.platform == 3
    assert "a-key-of-some-length" not in repr(settings)
    with pytest.raises(ValidationError, match="frozen"):
        settings.local_paths = True  # type: ignore[misc]


def test_every_setting_is_described() -> None:
    def fields_of(model: type[BaseModel]) -> list[str]:
        missing = []
        for name, field in model.model_fields.items():
            if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
                missing += fields_of(field.annotation)
            elif not field.description:
                missing.append(name)
        return missing

    assert fields_of(Settings) == []


def test_a_key_that_is_refused_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CDM_API_KEY", "too-short")

    with pytest.raises(ValidationError, match="api_key") as caught:
        Settings()

    assert "too-short" not in str(caught.value)
