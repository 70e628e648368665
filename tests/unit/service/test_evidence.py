"""What counts as proof that an attempt is over, and what it is put down to."""

from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.cluster.base import Run, RunStatus
from service.jobs.evidence import Observed, Unreachable, facts_of, never_began, taken
from service.jobs.lifecycle import Ending, EngineStatus, Intent, JobState, conclude
from service.jobs.reasons import CAUSES
from service.jobs.records import AttemptRecord, JobRecord
from tests.support.jobs import HEARSAY, LONG_AGO, NOW, PROOFS, ago, attempt, job, outcome, progress, run
from tests.support.verdicts import AWAY, BEATING, LIMITS, SILENT, verdict
from workers.contract.records import Outcome, Reason


def reason(of: JobRecord, seen: Observed, *, on: AttemptRecord | None = None) -> str | None:
    found = verdict(of, seen, on=on)
    return found.reason if found else None


@pytest.mark.parametrize("seen", [AWAY, None, run(), run(RunStatus.FAILED, PROOFS[0])])
@pytest.mark.parametrize(
    ("status", "ending"), [("succeeded", Ending.DONE), ("stopped", Ending.FAILED), ("failed", Ending.FAILED)]
)
def test_a_drivers_own_last_record_counts_whatever_the_engine_says(
    seen: Run | Unreachable | None, status: str, ending: Ending
) -> None:
    found = verdict(SILENT, Observed(run=seen, outcome=outcome(status), session="session_2"))

    assert found
    assert found.ending is ending


@pytest.mark.parametrize("state", [JobState.STARTING, JobState.RUNNING, JobState.RECOVERING])
@pytest.mark.parametrize("of", [SILENT, BEATING])
def test_an_engine_that_does_not_answer_proves_nothing(state: JobState, of: JobRecord) -> None:
    facts = facts_of(replace(of, state=state), attempt(), Observed(run=AWAY), now=NOW, limits=LIMITS)

    assert (facts.engine_status, facts.verdict) == (EngineStatus.UNREACHABLE, None)


@pytest.mark.parametrize("status", [RunStatus.PENDING, RunStatus.RUNNING])
def test_an_attempt_that_the_engine_has_lives_however_silent_it_is(status: RunStatus) -> None:
    assert verdict(SILENT, Observed(run=run(status), progress=progress())) is None


@pytest.mark.parametrize("error_type", PROOFS)
@pytest.mark.parametrize("of", [SILENT, BEATING])
def test_a_command_that_the_engine_saw_fail_is_over_at_once(error_type: str, of: JobRecord) -> None:
    seen = Observed(run=run(RunStatus.FAILED, error_type, message="exit code 137"), progress=progress())

    found = verdict(of, seen)

    assert found
    assert (found.reason, found.again) == ("driver_lost", True)
    assert "exit code 137" in found.message


@pytest.mark.parametrize("status", [RunStatus.SUCCEEDED, RunStatus.STOPPED])
def test_a_command_that_the_engine_saw_end_without_a_last_record_is_lost(status: RunStatus) -> None:
    assert reason(BEATING, Observed(run=run(status))) in {"driver_lost", "stopped"}


@pytest.mark.parametrize("error_type", HEARSAY)
def test_a_false_failure_is_not_believed_while_the_driver_beats(error_type: str | None) -> None:
    seen = Observed(run=run(RunStatus.FAILED, error_type), progress=progress())

    assert verdict(BEATING, seen) is None
    assert reason(SILENT, seen) == "driver_lost"


@pytest.mark.parametrize("error_type", HEARSAY)
def test_a_lost_supervisor_of_a_driver_that_never_beat_is_believed_a_while_after_submission(
    error_type: str | None,
) -> None:
    seen, silent = Observed(run=run(RunStatus.FAILED, error_type)), job(JobState.STARTING)

    assert verdict(silent, seen, on=attempt(submitted_at=ago(89))) is None
    assert reason(silent, seen, on=attempt(submitted_at=ago(91))) == "driver_lost"


def test_an_engine_that_came_back_without_memory_proves_it_unless_the_driver_beats() -> None:
    restarted = Observed(run=None, session="session_2", progress=progress())

    assert reason(SILENT, restarted) == "head_restarted"
    assert verdict(BEATING, restarted) is None, "a head whose drivers survive it may forget them"


def test_an_engine_that_came_back_without_memory_proves_it_even_just_after_submission() -> None:
    fresh = attempt(submitted_at=ago(1))

    assert reason(job(JobState.STARTING), Observed(run=None, session="session_2"), on=fresh) == "head_restarted"


def test_an_engine_that_knows_no_such_attempt_may_be_late_for_a_minute() -> None:
    unknown = Observed(run=None, session="session_1")

    assert verdict(job(JobState.STARTING), unknown, on=attempt(submitted_at=ago(59))) is None
    assert reason(job(JobState.STARTING), unknown, on=attempt(submitted_at=ago(61))) == "head_restarted"


def test_a_record_that_was_deleted_from_the_engine_is_no_proof_while_the_driver_beats() -> None:
    unknown = Observed(run=None, session="session_1", progress=progress())

    assert verdict(BEATING, unknown) is None
    assert reason(SILENT, unknown) == "head_restarted"


def test_an_attempt_that_was_not_submitted_cannot_be_over_for_lack_of_a_record() -> None:
    facts = facts_of(job(JobState.STARTING), attempt(submitted_at=None), Observed(run=None), now=NOW, limits=LIMITS)

    assert (facts.submitted, facts.engine_status, facts.verdict) == (False, EngineStatus.UNKNOWN, None)


def test_a_submission_of_ours_with_a_foreign_nonce_is_never_taken_for_ours() -> None:
    for submitted_at in (None, LONG_AGO):
        found = verdict(BEATING, Observed(run=run(nonce="theirs")), on=attempt(submitted_at=submitted_at))

        assert found
        assert (found.reason, found.again) == ("submission_conflict", False)


def test_an_attempt_that_was_found_in_the_object_store_has_no_nonce_to_compare() -> None:
    assert verdict(BEATING, Observed(run=run(nonce="from before")), on=attempt(nonce="")) is None


@pytest.mark.parametrize("skew_seconds", [-86_400, 86_400])
def test_the_clocks_of_workers_do_not_matter(skew_seconds: float) -> None:
    """Heartbeats are counted as heard when they change, by our clock."""
    theirs = progress(updated_at=NOW + timedelta(seconds=skew_seconds))
    lost = Observed(run=run(RunStatus.FAILED, HEARSAY[0]), progress=theirs)

    assert verdict(replace(BEATING, progress=theirs), lost) is None
    assert reason(replace(SILENT, progress=theirs), lost) == "driver_lost"


observations = st.builds(
    Observed,
    run=st.none() | st.just(AWAY) | st.builds(run, st.sampled_from(RunStatus), st.sampled_from([*PROOFS, *HEARSAY])),
    session=st.sampled_from([None, "session_1", "session_2"]),
    progress=st.none() | st.sampled_from([progress("preparing"), progress(), progress("checkpointing")]),
)
jobs = st.builds(
    job,
    st.sampled_from([state for state in JobState if state.is_active]),
    intent=st.none() | st.sampled_from(Intent),
    heard_at=st.none() | st.integers(0, 200).map(ago),
    stop_by=st.none() | st.integers(-100, 100).map(ago),
    platform_failures=st.integers(0, 3),
    user_failures=st.integers(0, 3),
    progress=st.none() | st.just(progress()),
)
outcomes = st.builds(outcome, st.sampled_from(["succeeded", "stopped", "failed"]), st.none() | st.sampled_from(Reason))


@settings(max_examples=300, deadline=None)
@given(jobs, observations, st.none() | st.integers(0, 200).map(ago))
def test_without_a_last_record_an_attempt_is_over_only_on_the_engines_word(
    of: JobRecord, seen: Observed, submitted_at: AttemptRecord
) -> None:
    found = verdict(of, seen, on=attempt(submitted_at=submitted_at))

    if found:
        assert submitted_at is not None
        assert not isinstance(seen.run, Unreachable)
        assert seen.run is None or seen.run.status.is_terminal


@settings(max_examples=300, deadline=None)
@given(jobs, observations, st.none() | outcomes)
def test_every_reason_that_a_verdict_gives_is_in_the_closed_list(
    of: JobRecord, seen: Observed, said: Outcome | None
) -> None:
    found = verdict(of, replace(seen, outcome=said))

    for one in (
        found,
        never_began(of, attempt(), now=NOW, limits=LIMITS),
        taken(of, attempt(), now=NOW, limits=LIMITS),
    ):
        if one is None:
            continue
        if one.ending is Ending.FAILED:
            assert one.reason in CAUSES
        closed = conclude(of.intent, one)
        assert closed.reason is None or closed.reason in {*CAUSES, "preempted"}
