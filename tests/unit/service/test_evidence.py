"""What counts as proof that an attempt is over, what it is put down to, and whether another one follows."""

from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.cluster.base import Run, RunStatus
from service.jobs.evidence import (
    Limits,
    Observed,
    Unreachable,
    known,
    never_began,
    signature,
    taken,
)
from service.jobs.lifecycle import Ending, Intent, JobState, Verdict, Word, conclude
from service.jobs.reasons import CAUSES, Blame
from service.jobs.records import AttemptRecord, JobRecord
from tests.support.jobs import HEARSAY, LONG_AGO, NOW, PROOFS, ago, attempt, job, outcome, progress, run
from workers.contract.records import Outcome, Reason

SAID = {reason.value for reason in Reason}
LIMITS = Limits(platform_retries=2, user_retries=1, back_off_seconds=10.0)
SILENT = job(heard_at=ago(91), advanced_at=ago(91), progress=progress())
BEATING = job(heard_at=ago(5), advanced_at=ago(5), progress=progress())


def verdict(
    of: JobRecord, seen: Observed, *, on: AttemptRecord | None = None, limits: Limits = LIMITS
) -> Verdict | None:
    return known(of, on or attempt(), seen, now=NOW, limits=limits).verdict


def reason(of: JobRecord, seen: Observed, *, on: AttemptRecord | None = None) -> str | None:
    found = verdict(of, seen, on=on)
    return found.reason if found else None


# What proves that an attempt is over


@pytest.mark.parametrize("seen", [Unreachable("timeout"), None, run(), run(RunStatus.FAILED, PROOFS[0])])
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
    facts = known(replace(of, state=state), attempt(), Observed(run=Unreachable("timeout")), now=NOW, limits=LIMITS)

    assert (facts.word, facts.verdict) == (Word.NOTHING, None)


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
    facts = known(job(JobState.STARTING), attempt(submitted_at=None), Observed(run=None), now=NOW, limits=LIMITS)

    assert (facts.submitted, facts.word, facts.verdict) == (False, Word.UNKNOWN, None)


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
    run=st.none()
    | st.just(Unreachable("timeout"))
    | st.builds(run, st.sampled_from(RunStatus), st.sampled_from([*PROOFS, *HEARSAY])),
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


# Where that leaves the job


def test_a_failure_of_the_platform_is_tried_again_until_its_budget_is_used_up() -> None:
    lost = Observed(run=run(RunStatus.FAILED, PROOFS[0], message="exit code 1"))
    worn = [replace(SILENT, platform_failures=failures) for failures in (0, 1, 2)]

    first, second, last = (verdict(of, lost) for of in worn)

    assert first
    assert first.again
    assert second
    assert second.again
    assert last
    assert (last.again, last.reason) == (False, "retries_exhausted")
    assert "3 attempts in a row left no new checkpoint" in last.message
    assert "exit code 1" in last.message


def test_an_error_of_the_training_code_has_a_budget_of_its_own() -> None:
    broken = Observed(outcome=outcome("failed", "internal"))

    further = verdict(replace(SILENT, platform_failures=2), broken)
    none_left = verdict(replace(SILENT, user_failures=1), broken)
    by_default = verdict(SILENT, broken, limits=Limits())

    assert further
    assert (further.again, further.reason) == (True, "internal")
    assert none_left
    assert (none_left.again, none_left.reason) == (False, "internal")
    assert by_default
    assert not by_default.again


@pytest.mark.parametrize("name", [name for name, cause in CAUSES.items() if not cause.retryable and name in SAID])
def test_what_would_come_again_is_not_tried_again(name: str) -> None:
    found = verdict(SILENT, Observed(outcome=outcome("failed", name)))

    assert found
    assert (found.again, found.reason, found.message) == (False, name, "said so")


@pytest.mark.parametrize("name", ["storage_error", "workers_lost"])
def test_outages_of_others_are_tried_again_however_many_errors_the_code_has_made(name: str) -> None:
    found = verdict(replace(SILENT, user_failures=5), Observed(outcome=outcome("failed", name)))

    assert found
    assert found.again


def test_a_job_that_something_else_stopped_goes_on() -> None:
    for seen in (Observed(outcome=outcome("stopped")), Observed(run=run(RunStatus.STOPPED))):
        found = verdict(SILENT, seen)

        assert found
        assert (found.again, found.reason) == (True, "stopped")


def test_a_new_checkpoint_gives_all_tries_back() -> None:
    lost = Observed(run=run(RunStatus.FAILED, PROOFS[0]))
    worn = replace(SILENT, platform_failures=2, progress=progress(last_checkpoint_images=200))

    fruitful = verdict(worn, lost, on=attempt(from_images=100))
    fruitless = verdict(worn, lost, on=attempt(from_images=200))

    assert fruitful
    assert fruitful.again
    assert fruitful.retry_at == NOW + timedelta(seconds=10)
    assert fruitless
    assert not fruitless.again


@pytest.mark.parametrize(
    ("failures", "seconds"), [(0, 10), (1, 20), (2, 40), (5, 320), (6, 600), (7, 600), (5_000, 600)]
)
def test_the_pause_before_another_try_doubles_up_to_ten_minutes(failures: int, seconds: float) -> None:
    lost = Observed(run=run(RunStatus.FAILED, PROOFS[0]))

    found = verdict(replace(SILENT, platform_failures=failures), lost, limits=Limits(platform_retries=10_000))

    assert found
    assert found.retry_at == NOW + timedelta(seconds=seconds)


def test_the_same_error_twice_at_the_same_point_is_poison() -> None:
    limits = Limits(user_retries=5)
    broken = Observed(outcome=outcome("failed", "internal", message="KeyError: 'sigma'"))
    first = verdict(SILENT, broken, limits=limits)
    assert first
    assert first.again
    again = replace(SILENT, user_failures=1, failure_signature=signature(first, SILENT))

    same = verdict(again, broken, limits=limits)
    elsewhere = verdict(replace(again, progress=progress(images_seen=228)), broken, limits=limits)
    another = verdict(again, Observed(outcome=outcome("failed", "internal", message="ValueError")), limits=limits)

    assert same
    assert (same.again, same.reason) == (False, "poison")
    assert "KeyError: 'sigma'" in same.message
    assert elsewhere
    assert elsewhere.again
    assert another
    assert another.again


def test_the_same_outage_twice_at_the_same_point_is_not_poison() -> None:
    lost = Observed(run=run(RunStatus.FAILED, PROOFS[0]))
    first = verdict(SILENT, lost)
    assert first

    second = verdict(replace(SILENT, platform_failures=1, failure_signature=signature(first, SILENT)), lost)

    assert second
    assert second.again


def test_an_attempt_waits_for_the_end_of_its_pause() -> None:
    over = attempt(ended_at=ago(5))
    waiting = job(JobState.RECOVERING, not_before=NOW + timedelta(seconds=1))

    early = known(waiting, over, Observed(), now=NOW, limits=LIMITS)
    due = known(waiting, over, Observed(), now=NOW + timedelta(seconds=1), limits=LIMITS)

    assert (early.between, early.may_begin) == (True, False)
    assert (due.between, due.may_begin) == (True, True)


# Leaving


@pytest.mark.parametrize("intent", [Intent.CANCEL, Intent.PAUSE, Intent.PREEMPT, Intent.EXPIRE])
def test_a_job_that_is_to_leave_is_not_held_to_its_budget(intent: Intent) -> None:
    worn = replace(SILENT, intent=intent, platform_failures=9, user_failures=9)
    for seen in (
        Observed(run=run(RunStatus.STOPPED)),
        Observed(run=run(RunStatus.FAILED, PROOFS[0])),
        Observed(outcome=outcome("failed", "internal")),
    ):
        found = verdict(worn, seen)

        assert found
        assert found.again
        assert found.reason in {"stopped", "driver_lost", "internal"}


@pytest.mark.parametrize("intent", Intent)
def test_a_job_that_left_with_a_checkpoint_left_cleanly(intent: Intent) -> None:
    found = verdict(replace(SILENT, intent=intent), Observed(outcome=outcome("stopped", message="left at 200 images")))

    assert found
    assert (found.ending, found.message) == (Ending.LEFT, "left at 200 images")


def test_an_attempt_that_the_engine_killed_left_no_checkpoint() -> None:
    found = verdict(replace(SILENT, intent=Intent.CANCEL), Observed(run=run(RunStatus.STOPPED)))

    assert found
    assert (found.ending, found.reason) == (Ending.FAILED, "stopped")
    assert "before it could leave a checkpoint" in found.message


@pytest.mark.parametrize("age", [0, -1])
def test_force_is_used_only_after_the_deadline(age: float) -> None:
    leaving = replace(BEATING, state=JobState.CANCELLING, intent=Intent.CANCEL, stop_by=ago(age))

    assert not known(leaving, attempt(), Observed(run=run()), now=NOW, limits=LIMITS).force
    assert known(leaving, attempt(), Observed(run=run()), now=NOW + timedelta(seconds=2), limits=LIMITS).force


def test_an_attempt_that_nobody_began_was_late_or_was_not_to_begin_at_all() -> None:
    late = never_began(job(JobState.STARTING), attempt(), now=NOW, limits=LIMITS)
    cancelled = never_began(job(JobState.CANCELLING, intent=Intent.CANCEL), attempt(), now=NOW, limits=LIMITS)

    assert (late.ending, late.reason, late.again) == (Ending.FAILED, "start_timeout", True)
    assert "within 900 s" in late.message
    assert cancelled.ending is Ending.LEFT


@pytest.mark.parametrize("blame", Blame)
def test_whose_budget_a_failure_is_taken_from_depends_on_whose_fault_it_is(blame: Blame) -> None:
    retryable = [name for name, cause in CAUSES.items() if cause.blame is blame and cause.retryable]

    assert retryable, "each has something that is worth another try"
    for name in retryable:
        worn = replace(SILENT, user_failures=0, platform_failures=2)
        found = verdict(worn, Observed(outcome=outcome("failed", name))) if name in SAID else None
        assert found is None or found.again is (blame is Blame.USER)
