"""What users can have a job do, state by state."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import pytest

from service.errors import StateConflict
from service.jobs import verbs
from service.jobs.lifecycle import Intent, JobState
from service.jobs.records import JobRecord
from tests.support.jobs import LONG_AGO, NOW, ago, job

GRACE = timedelta(seconds=90)
VERBS: dict[str, Callable[[JobRecord], JobRecord]] = {
    "cancel": lambda of: verbs.cancel(of, at=NOW, grace=GRACE),
    "pause": lambda of: verbs.pause(of, at=NOW, grace=GRACE),
    "resume": lambda of: verbs.resume(of, at=NOW),
    "retry": lambda of: verbs.retry(of, at=NOW),
    "archive": lambda of: verbs.archive(of, at=NOW),
    "restore": verbs.restore,
    "replay": lambda of: verbs.replay(of, at=NOW),
    "delete": lambda of: verbs.delete(of, at=NOW, purge=()),
}
_ALWAYS = ("archive", "restore", "replay", "delete")
# where each verb leads, by state; what is not named is refused
LEADS_TO: dict[JobState, dict[str, JobState]] = {
    JobState.QUEUED: {"cancel": JobState.CANCELLED, "pause": JobState.PAUSED},
    JobState.STARTING: {"cancel": JobState.CANCELLING, "pause": JobState.PAUSING},
    JobState.RUNNING: {"cancel": JobState.CANCELLING, "pause": JobState.PAUSING},
    JobState.RECOVERING: {"cancel": JobState.CANCELLING, "pause": JobState.PAUSING},
    JobState.PAUSING: {"cancel": JobState.CANCELLING, "pause": JobState.PAUSING},
    JobState.PAUSED: {"cancel": JobState.CANCELLED, "resume": JobState.QUEUED, "pause": JobState.PAUSED},
    JobState.CANCELLING: {"cancel": JobState.CANCELLING},
    JobState.SUCCEEDED: dict.fromkeys(_ALWAYS, JobState.SUCCEEDED),
    JobState.FAILED: {
        "retry": JobState.QUEUED,
        **dict.fromkeys(_ALWAYS, JobState.FAILED),
    },
    JobState.CANCELLED: {
        "retry": JobState.QUEUED,
        **dict.fromkeys(_ALWAYS, JobState.CANCELLED),
    },
}
INTENTS = {JobState.PAUSING: Intent.PAUSE, JobState.CANCELLING: Intent.CANCEL}


def in_state(state: JobState) -> JobRecord:
    intent = INTENTS.get(state)
    return job(state, intent=intent, stop_by=NOW + GRACE if intent else None)


def offered(possible: set[str], state: JobState) -> list[str]:
    """Of what is possible for a job that is not archived, that which changes something."""
    return sorted(possible - {"restore"} - ({"pause"} if state is JobState.PAUSED else set()))


@pytest.mark.parametrize("state", JobState)
@pytest.mark.parametrize("verb", VERBS)
def test_each_verb_does_what_it_says_or_says_what_else_could_be_done(state: JobState, verb: str) -> None:
    expected = LEADS_TO[state].get(verb)
    if expected:
        assert VERBS[verb](in_state(state)).state is expected
        return

    with pytest.raises(StateConflict) as caught:
        VERBS[verb](in_state(state))

    assert caught.value.status == 409
    assert caught.value.extra == {"current_state": state, "allowed": offered({*LEADS_TO[state], "fork"}, state)}
    assert f"it cannot {verb}" in caught.value.detail


@pytest.mark.parametrize("kind", ["sample", "evaluate", "import", "compare"])
@pytest.mark.parametrize("state", JobState)
def test_a_job_that_is_no_training_can_do_all_but_what_takes_checkpoints_and_curves(kind: str, state: JobState) -> None:
    of_kind = replace(in_state(state), kind=kind)
    possible = {*LEADS_TO[state]} - {"replay"}

    assert [*verbs.allowed(of_kind)] == offered(possible, state)
    for verb in ("fork", "replay"):
        with pytest.raises(StateConflict, match=f"only trainings can, and it is a job of kind {kind}") as caught:
            verbs.require(of_kind, verb, mend="something else")
        assert caught.value.extra == {"current_state": state, "allowed": offered(possible, state)}
        assert "something else" not in caught.value.detail
    for verb in possible:
        verbs.require(of_kind, verb)


def test_what_is_allowed_is_what_is_offered() -> None:
    assert {state: {*leads, "fork"} for state, leads in LEADS_TO.items()} == verbs.ALLOWED


def test_a_job_that_is_cancelled_has_its_grace_to_leave_in() -> None:
    asked = VERBS["cancel"](job())

    assert (asked.intent, asked.stop_by) == (Intent.CANCEL, NOW + GRACE)


def test_of_two_cancellations_the_shorter_grace_holds() -> None:
    patient = verbs.cancel(job(), at=NOW, grace=timedelta(seconds=600))

    at_once = verbs.cancel(patient, at=NOW, grace=timedelta(0))
    still = verbs.cancel(at_once, at=NOW, grace=timedelta(seconds=600))

    assert at_once.stop_by == NOW
    assert still == at_once


@pytest.mark.parametrize("intent", [Intent.PAUSE, Intent.PREEMPT, Intent.RESTART])
def test_a_job_that_was_to_come_back_can_be_cancelled_instead(intent: Intent) -> None:
    leaving = job(JobState.PAUSING, intent=intent, stop_by=ago(-10))

    cancelled = VERBS["cancel"](leaving)

    assert (cancelled.state, cancelled.intent) == (JobState.CANCELLING, Intent.CANCEL)


def test_a_job_that_makes_room_for_another_can_be_paused_instead_of_queued() -> None:
    leaving = job(JobState.PAUSING, intent=Intent.PREEMPT, stop_by=ago(-10))

    paused = VERBS["pause"](leaving)

    assert (paused.state, paused.intent) == (JobState.PAUSING, Intent.PAUSE)


def test_asking_again_later_changes_nothing() -> None:
    later = NOW + timedelta(seconds=10)
    paused, cancelled, archived = VERBS["pause"](job()), VERBS["cancel"](job()), VERBS["archive"](job(JobState.FAILED))

    assert verbs.pause(paused, at=later, grace=GRACE) == paused
    assert verbs.cancel(cancelled, at=later, grace=GRACE) == cancelled
    assert verbs.archive(archived, at=later) == archived


def test_a_resumed_job_waits_for_its_turn_anew() -> None:
    resumed = VERBS["resume"](job(JobState.PAUSED, queued_at=LONG_AGO))

    assert (resumed.queued_at, resumed.intent, resumed.reason) == (NOW, None, None)


def test_a_retried_job_starts_with_a_clean_slate_and_the_next_number() -> None:
    failed = job(
        JobState.FAILED,
        attempt=3,
        reason="retries_exhausted",
        message="three times",
        ended_at=LONG_AGO,
        archived_at=LONG_AGO,
        mlflow_due_until=NOW,
        unclean=True,
        platform_failures=3,
        user_failures=1,
        failure_signature="same",
    )

    retried = VERBS["retry"](failed)

    assert retried == job(JobState.QUEUED, attempt=3, queued_at=NOW, started_at=failed.started_at)


def test_archiving_and_restoring_leave_everything_where_it_is() -> None:
    done = job(JobState.SUCCEEDED, ended_at=LONG_AGO)

    archived = VERBS["archive"](done)

    assert archived.archived_at == NOW
    assert VERBS["restore"](archived) == done


def test_a_replay_has_two_days_from_when_it_was_last_asked_for() -> None:
    done = job(JobState.SUCCEEDED, ended_at=LONG_AGO)

    assert VERBS["replay"](done) == replace(done, mlflow_due_until=NOW + timedelta(days=2))


def test_a_replay_of_a_job_that_runs_is_refused_with_when_to_come_back() -> None:
    with pytest.raises(StateConflict, match="wait until it has ended"):
        VERBS["replay"](job())


def test_a_deleted_job_remembers_what_is_to_be_removed() -> None:
    deleted = verbs.delete(job(JobState.SUCCEEDED), at=NOW, purge=("checkpoints", "logs"))

    assert (deleted.deleted_at, deleted.purge_due) == (NOW, ("checkpoints", "logs"))


@pytest.mark.parametrize("verb", VERBS)
def test_whatever_a_verb_changes_is_copied_to_the_object_store(verb: str) -> None:
    archived_at = LONG_AGO if verb == "restore" else None  # else it has nothing to change
    befores = [replace(in_state(state), record_due=False, archived_at=archived_at) for state in LEADS_TO]
    pairs = [(one, VERBS[verb](one)) for one in befores if verb in LEADS_TO[one.state]]
    changed = [after for before, after in pairs if replace(after, record_due=False) != before]

    assert changed
    assert all(after.record_due for after in changed)


@pytest.mark.parametrize("state", [JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED])
def test_an_archived_job_is_offered_to_be_restored_and_may_be_archived_again(state: JobState) -> None:
    archived = replace(in_state(state), archived_at=NOW)

    assert "restore" in verbs.allowed(archived)
    assert "archive" not in verbs.allowed(archived)
    verbs.require(archived, "archive")
