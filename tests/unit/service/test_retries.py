"""Where the end of an attempt leaves its job: whether another one follows, when, and how it leaves if it is to."""

from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from service.cluster.base import RunStatus
from service.jobs.budgets import signature
from service.jobs.evidence import Observed, Unreachable, facts_of, never_began
from service.jobs.lifecycle import Ending, Intent, JobState
from service.jobs.reasons import CAUSES, Blame
from service.jobs.records import AttemptRecord
from service.settings import Retries
from tests.support.jobs import LONG_AGO, NOW, PROOFS, ago, attempt, job, outcome, progress, run
from tests.support.verdicts import AWAY, BEATING, LIMITS, SILENT, decided
from workers.contract.records import Reason

SAID = {reason.value for reason in Reason}


def test_a_failure_of_the_platform_is_tried_again_until_its_budget_is_used_up() -> None:
    lost = Observed(run=run(RunStatus.FAILED, PROOFS[0], message="exit code 1"))
    worn = [replace(SILENT, platform_failures=failures) for failures in (0, 1, 2)]

    first, second, last = (decided(of, lost) for of in worn)

    assert first.again
    assert second.again
    assert (last.again, last.reason) == (False, "retries_exhausted")
    assert "3 attempts in a row left no new checkpoint" in last.message
    assert "exit code 1" in last.message


def test_an_error_of_the_training_code_has_a_budget_of_its_own() -> None:
    broken = Observed(outcome=outcome("failed", "internal"))

    further = decided(replace(SILENT, platform_failures=2), broken)
    none_left = decided(replace(SILENT, user_failures=1), broken)
    by_default = decided(SILENT, broken, limits=replace(LIMITS, retries=Retries()))

    assert (further.again, further.reason) == (True, "internal")
    assert (none_left.again, none_left.reason) == (False, "internal")
    assert not by_default.again


@pytest.mark.parametrize("name", [name for name, cause in CAUSES.items() if not cause.retryable and name in SAID])
def test_what_would_come_again_is_not_tried_again(name: str) -> None:
    found = decided(SILENT, Observed(outcome=outcome("failed", name)))

    assert (found.again, found.reason, found.message) == (False, name, "said so")


@pytest.mark.parametrize("name", ["storage_error", "workers_lost"])
def test_outages_of_others_are_tried_again_however_many_errors_the_code_has_made(name: str) -> None:
    found = decided(replace(SILENT, user_failures=5), Observed(outcome=outcome("failed", name)))

    assert found.again


def test_a_job_that_something_else_stopped_goes_on() -> None:
    for seen in (Observed(outcome=outcome("stopped")), Observed(run=run(RunStatus.STOPPED))):
        found = decided(SILENT, seen)

        assert (found.again, found.reason) == (True, "stopped")


def test_a_new_checkpoint_gives_all_tries_back() -> None:
    lost = Observed(run=run(RunStatus.FAILED, PROOFS[0]))
    worn = replace(SILENT, platform_failures=2, progress=progress(last_checkpoint_images=200))

    fruitful = decided(worn, lost, on=attempt(from_images=100))
    fruitless = decided(worn, lost, on=attempt(from_images=200))

    assert fruitful.again
    assert fruitful.retry_at
    assert NOW + timedelta(seconds=5) <= fruitful.retry_at <= NOW + timedelta(seconds=10)
    assert not fruitless.again


@pytest.mark.parametrize(
    ("failures", "seconds"), [(0, 10), (1, 20), (2, 40), (5, 320), (6, 600), (7, 600), (5_000, 600)]
)
def test_the_pause_before_another_try_doubles_up_to_ten_minutes(failures: int, seconds: float) -> None:
    lost = Observed(run=run(RunStatus.FAILED, PROOFS[0]))

    limits = replace(LIMITS, retries=Retries(platform=10_000))
    found = decided(replace(SILENT, platform_failures=failures), lost, limits=limits)

    assert found.retry_at
    assert NOW + timedelta(seconds=seconds / 2) <= found.retry_at <= NOW + timedelta(seconds=seconds)


def test_attempts_that_were_lost_together_do_not_come_again_at_one_moment() -> None:
    lost = Observed(run=run(RunStatus.FAILED, PROOFS[0]))
    attempts = [replace(attempt(), submission_id=f"job_{number}-a1") for number in range(100)]

    found = [decided(SILENT, lost, on=one) for one in attempts]

    pauses = sorted(one.retry_at - NOW for one in found if one.retry_at)
    assert len(pauses) == 100
    assert len(set(pauses)) > 50
    assert pauses[-1] - pauses[0] > timedelta(seconds=4)
    assert found == [decided(SILENT, lost, on=one) for one in attempts], "decided twice, it is the same"


def test_the_same_error_twice_at_the_same_point_is_poison() -> None:
    limits = replace(LIMITS, retries=Retries(user=5))
    broken = Observed(outcome=outcome("failed", "internal", message="KeyError: 'sigma'"))
    first = decided(SILENT, broken, limits=limits)
    assert first.again
    again = replace(SILENT, user_failures=1, failure_signature=signature(first.reason, first.message, SILENT))

    same = decided(again, broken, limits=limits)
    elsewhere = decided(replace(again, progress=progress(images_seen=228)), broken, limits=limits)
    another = decided(again, Observed(outcome=outcome("failed", "internal", message="ValueError")), limits=limits)

    assert (same.again, same.reason) == (False, "poison")
    assert "KeyError: 'sigma'" in same.message
    assert elsewhere.again
    assert another.again


def test_the_same_outage_twice_at_the_same_point_is_not_poison() -> None:
    lost = Observed(run=run(RunStatus.FAILED, PROOFS[0]))
    first = decided(SILENT, lost)

    second = decided(
        replace(SILENT, platform_failures=1, failure_signature=signature(first.reason, first.message, SILENT)), lost
    )

    assert second.again


def test_an_attempt_waits_for_the_end_of_its_pause() -> None:
    over = attempt(ended_at=ago(5))
    waiting = job(JobState.RECOVERING, not_before=NOW + timedelta(seconds=1))

    early = facts_of(waiting, over, Observed(), now=NOW, limits=LIMITS)
    due = facts_of(waiting, over, Observed(), now=NOW + timedelta(seconds=1), limits=LIMITS)

    assert (early.between, early.may_begin) == (True, False)
    assert (due.between, due.may_begin) == (True, True)


@pytest.mark.parametrize("intent", [Intent.CANCEL, Intent.PAUSE, Intent.PREEMPT, Intent.EXPIRE])
def test_a_job_that_is_to_leave_is_not_held_to_its_budget(intent: Intent) -> None:
    worn = replace(SILENT, intent=intent, platform_failures=9, user_failures=9)
    for seen in (
        Observed(run=run(RunStatus.STOPPED)),
        Observed(run=run(RunStatus.FAILED, PROOFS[0])),
        Observed(outcome=outcome("failed", "internal")),
    ):
        found = decided(worn, seen)

        assert found.again
        assert found.reason in {"stopped", "driver_lost", "internal"}


@pytest.mark.parametrize("intent", Intent)
def test_a_job_that_left_with_a_checkpoint_left_cleanly(intent: Intent) -> None:
    found = decided(replace(SILENT, intent=intent), Observed(outcome=outcome("stopped", message="left at 200 images")))

    assert (found.ending, found.message) == (Ending.LEFT, "left at 200 images")


def test_an_attempt_that_the_engine_killed_left_no_checkpoint() -> None:
    found = decided(replace(SILENT, intent=Intent.CANCEL), Observed(run=run(RunStatus.STOPPED)))

    assert (found.ending, found.reason) == (Ending.FAILED, "stopped")
    assert "before it could leave a checkpoint" in found.message


@pytest.mark.parametrize("age", [0, -1])
def test_force_is_used_only_after_the_deadline(age: float) -> None:
    leaving = replace(BEATING, state=JobState.CANCELLING, intent=Intent.CANCEL, stop_by=ago(age))

    assert not facts_of(leaving, attempt(), Observed(run=run()), now=NOW, limits=LIMITS).force
    assert facts_of(leaving, attempt(), Observed(run=run()), now=NOW + timedelta(seconds=2), limits=LIMITS).force


@pytest.mark.parametrize("intent", Intent)
def test_what_can_still_be_told_to_leave_is_told_before_force_is_used_unless_it_is_cancelled(intent: Intent) -> None:
    leaving = replace(BEATING, state=JobState.PAUSING, intent=intent, stop_by=ago(1))
    untold, told = attempt(), attempt(stop_sent_at=ago(90))

    def force(on: AttemptRecord, seen: Observed) -> bool:
        return facts_of(leaving, on, seen, now=NOW, limits=LIMITS).force

    assert force(untold, Observed(run=run())) is (intent is Intent.CANCEL)
    assert force(untold, Observed(run=AWAY))
    assert force(told, Observed(run=run()))


@pytest.mark.parametrize("stop_sent_at", [None, LONG_AGO])
@pytest.mark.parametrize("intent", Intent)
def test_an_engine_that_may_soon_answer_again_is_waited_for_before_force_is_used_unless_it_is_a_cancellation(
    intent: Intent, stop_sent_at: datetime | None
) -> None:
    leaving = replace(BEATING, state=JobState.PAUSING, intent=intent, stop_by=LONG_AGO)
    on = attempt(stop_sent_at=stop_sent_at)

    def force(seconds: float) -> bool:
        away = Observed(run=Unreachable("timeout", since=ago(seconds)))
        return facts_of(leaving, on, away, now=NOW, limits=LIMITS).force

    patience = LIMITS.stop_patience.total_seconds()
    assert [force(0), force(patience)] == [intent is Intent.CANCEL] * 2
    assert force(patience + 1)


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
    for name in SAID.intersection(retryable):
        worn = replace(SILENT, user_failures=0, platform_failures=2)
        found = decided(worn, Observed(outcome=outcome("failed", name)))
        assert found.again is (blame is Blame.USER)
