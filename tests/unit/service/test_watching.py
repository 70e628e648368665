"""What is noticed of attempts that have not ended: silence, standing still, being late, having had their time."""

import json
from dataclasses import replace
from datetime import timedelta

import pytest

from service.cluster.base import RunStatus
from service.jobs.evidence import (
    Observed,
    facts_of,
    is_silent,
    is_stalled,
    taken,
)
from service.jobs.lifecycle import Ask, Intent, JobState, Move, Revoke, conclude, decide
from service.settings import Watch
from tests.support.jobs import NOW, SPEC, ago, attempt, job, outcome, progress, run
from tests.support.verdicts import AWAY, BEATING, LIMITS, SILENT
from workers.contract.records import Progress


def overdue(seen: Observed, *, submitted_seconds_ago: float) -> bool:
    on = attempt(submitted_at=ago(submitted_seconds_ago))
    return facts_of(job(JobState.STARTING), on, seen, now=NOW, limits=LIMITS).overdue


def test_an_attempt_that_no_driver_begins_is_overdue_after_the_start_timeout() -> None:
    pending = Observed(run=run(RunStatus.PENDING))

    assert not overdue(pending, submitted_seconds_ago=900)
    assert overdue(pending, submitted_seconds_ago=901)
    assert not overdue(replace(pending, claimed=True), submitted_seconds_ago=901)


def test_an_overdue_attempt_is_taken_back_but_not_behind_a_silent_engine() -> None:
    on = attempt(submitted_at=ago(901))
    pending = facts_of(job(JobState.STARTING), on, Observed(run=run(RunStatus.PENDING)), now=NOW, limits=LIMITS)
    silent = facts_of(job(JobState.STARTING), on, Observed(run=AWAY), now=NOW, limits=LIMITS)

    assert decide(pending) == Revoke()
    assert not isinstance(decide(silent), Revoke)


@pytest.mark.parametrize(("seconds", "expired"), [(3600, False), (3599, True)])
def test_a_job_has_expired_when_it_has_had_its_time_since_it_left_the_queue(seconds: float, expired: bool) -> None:
    limited = replace(BEATING, max_runtime_seconds=seconds)

    running = facts_of(limited, attempt(), Observed(run=run(), claimed=True), now=NOW, limits=LIMITS)
    between = facts_of(limited, attempt(ended_at=ago(5)), Observed(), now=NOW, limits=LIMITS)

    assert (running.expired, between.expired) == (expired, expired)
    assert (decide(running) == Ask(Intent.EXPIRE)) is expired


def test_a_heartbeat_that_stops_is_noticed_after_90_seconds() -> None:
    assert not is_silent(job(), now=NOW), "it has not begun to beat"
    assert not is_silent(job(heard_at=ago(90)), now=NOW)
    assert is_silent(job(heard_at=ago(91)), now=NOW)


def stalled(seconds: float, state: JobState = JobState.RUNNING, *, seen: Progress | None = None) -> bool:
    return is_stalled(job(state, advanced_at=ago(seconds), progress=seen or progress()), now=NOW, limits=LIMITS)


def test_training_that_does_not_get_on_is_stalled_after_minutes() -> None:
    assert not stalled(300)
    assert stalled(301)


def test_a_job_that_reports_seldom_is_given_ten_reports() -> None:
    slow = progress(images_per_second=0.5)  # 32 images between two reports: a minute

    assert not stalled(640, seen=slow)
    assert stalled(641, seen=slow)


def test_a_job_that_does_not_train_is_not_stalled() -> None:
    assert not stalled(10_000, seen=progress("checkpointing"))
    assert not stalled(10_000, seen=progress("preparing"), state=JobState.PAUSING)
    assert not stalled(10_000, JobState.STARTING)
    assert not is_stalled(job(), now=NOW, limits=LIMITS)


@pytest.mark.parametrize("state", [JobState.STARTING, JobState.RUNNING, JobState.RECOVERING])
def test_a_job_that_does_not_come_to_train_is_stalled_after_its_workers_own_patience(state: JobState) -> None:
    assert not stalled(1800 + 300, state, seen=progress("preparing"))
    assert stalled(1800 + 301, state, seen=progress("preparing"))


def test_a_job_that_has_not_told_how_fast_it_is_or_for_how_long_it_may_prepare_is_not_stalled() -> None:
    """Its workers' watchdogs know about the first; documents of earlier releases do not say the second."""
    earlier = json.loads(SPEC.model_dump_json())
    del earlier["compute"]["start_seconds"]
    preparing = job(spec=json.dumps(earlier), advanced_at=ago(10_000), progress=progress("preparing"))

    assert not stalled(10_000, seen=progress(images_per_second=0.0))
    assert not is_stalled(preparing, now=NOW, limits=LIMITS)


def test_a_stalled_job_is_restarted_only_if_the_operator_wants_that() -> None:
    stuck = replace(BEATING, advanced_at=ago(301))
    seen = Observed(run=run(), progress=progress())

    told = facts_of(stuck, attempt(), seen, now=NOW, limits=LIMITS)
    restarted = facts_of(stuck, attempt(), seen, now=NOW, limits=replace(LIMITS, watch=Watch(restart_stalled=True)))

    assert not isinstance(decide(told), Ask)
    assert decide(restarted) == Ask(Intent.RESTART)


def test_a_job_that_stalls_again_and_again_uses_up_its_tries() -> None:
    restarting = replace(SILENT, state=JobState.PAUSING, intent=Intent.RESTART)
    worn = replace(restarting, platform_failures=2)
    for seen in (
        Observed(outcome=outcome("stopped")),
        Observed(outcome=outcome("failed", "internal")),
        Observed(run=run(RunStatus.STOPPED)),
    ):
        first, last = (facts_of(of, attempt(), seen, now=NOW, limits=LIMITS).verdict for of in (restarting, worn))

        assert first
        closed = conclude(Intent.RESTART, first)
        assert (closed.to, closed.reason) == (JobState.RECOVERING, "stalled")
        assert closed.retry_at
        assert NOW + timedelta(seconds=5) <= closed.retry_at <= NOW + timedelta(seconds=10)
        assert last
        assert conclude(Intent.RESTART, last) == Move(JobState.FAILED, "retries_exhausted", last.message, closes=True)


def test_a_stalled_job_that_had_to_be_fenced_uses_up_its_tries_too() -> None:
    restarting = replace(SILENT, state=JobState.PAUSING, intent=Intent.RESTART)

    first = taken(restarting, attempt(), now=NOW, limits=LIMITS)
    last = taken(replace(restarting, platform_failures=2), attempt(), now=NOW, limits=LIMITS)

    assert (first.reason, first.again) == ("stalled", True)
    assert (last.reason, last.again) == ("retries_exhausted", False)
