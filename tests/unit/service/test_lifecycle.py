"""What `decide` may and may not do, over everything that can be seen of a job."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.cluster.base import Run, RunStatus
from service.jobs.lifecycle import (
    Action,
    Adopt,
    Begin,
    Finish,
    Hold,
    MarkRunning,
    Observed,
    Retry,
    Revoke,
    Stop,
    Submit,
    Unreachable,
    Wait,
    decide,
)
from service.jobs.records import AttemptRecord, JobRecord
from service.jobs.views import JobState
from workers.contract.records import Outcome, Progress, Reason

NOW = datetime(2026, 11, 1, 12, tzinfo=UTC)
LONG_AGO = NOW - timedelta(hours=1)
TERMINAL = [state for state in JobState if state.is_terminal]
ACTIVE = [JobState.STARTING, JobState.RUNNING, JobState.CANCELLING]
PROOFS = ["JOB_ENTRYPOINT_COMMAND_ERROR", "JOB_ENTRYPOINT_COMMAND_START_ERROR", "RUNTIME_ENV_SETUP_FAILURE"]
HEARSAY = ["JOB_SUPERVISOR_ACTOR_DIED", "JOB_SUPERVISOR_ACTOR_UNKNOWN_FAILURE", None]


def job(state: JobState, *, attempt: int = 1) -> JobRecord:
    number = 0 if state is JobState.QUEUED else attempt
    return JobRecord(id="job_1", name=None, state=state, spec="{}", spec_sha256="", created_at=LONG_AGO, attempt=number)


def attempt(*, number: int = 1, submitted_at: datetime | None = LONG_AGO) -> AttemptRecord:
    return AttemptRecord(
        job_id="job_1",
        number=number,
        submission_id=f"job_1-a{number}",
        nonce="ours",
        created_at=LONG_AGO,
        submitted_at=submitted_at,
    )


def run(status: RunStatus, error_type: str | None = None, *, nonce: str = "ours") -> Run:
    return Run(
        submission_id="job_1-a1",
        status=status,
        error_type=error_type,
        message=None,
        metadata={"cdm_nonce": nonce},
    )


def outcome(status: str, reason: Reason | None = None) -> Outcome:
    fields = {"status": status, "reason": reason, "message": "said so", "images_seen": 1, "mlflow_run_id": None}
    return Outcome.model_validate({**fields, "ended_at": NOW})


def progress(phase: str, *, age_seconds: float = 0.0) -> Progress:
    return Progress.model_validate(
        {
            "phase": phase,
            "images_seen": 1,
            "total_images": 2,
            "images_per_second": 1.0,
            "eta_seconds": None,
            "losses": {},
            "last_checkpoint_images": None,
            "num_workers": 1,
            "mlflow_run_id": None,
            "updated_at": NOW - timedelta(seconds=age_seconds),
        }
    )


def chosen(job: JobRecord, seen: Observed, *, of: AttemptRecord | None = None, admitted: bool = True) -> Action:
    present = of or (attempt(number=job.attempt) if job.attempt else None)
    return decide(job, present, seen, now=NOW, admitted=admitted, max_attempts=3)


progresses = st.none() | st.builds(
    progress, st.sampled_from(["preparing", "training", "checkpointing"]), age_seconds=st.floats(0, 1e6)
)
outcomes = st.none() | st.sampled_from(
    [outcome("succeeded"), outcome("stopped"), *(outcome("failed", reason) for reason in [None, *Reason])]
)
runs = (
    st.none()
    | st.just(Unreachable("timeout"))
    | st.builds(run, st.sampled_from(RunStatus), st.sampled_from([*PROOFS, *HEARSAY]))
)
attempts = st.builds(
    attempt,
    number=st.integers(1, 3),
    submitted_at=st.none() | st.floats(0, 1e6).map(lambda age: NOW - timedelta(seconds=age)),
)


@given(st.sampled_from(TERMINAL), attempts, runs, outcomes, progresses, st.booleans())
def test_a_finished_job_never_moves_again(
    state: JobState,
    of: AttemptRecord,
    seen: Run | Unreachable | None,
    said: Outcome | None,
    heard: Progress | None,
    admitted: bool,
) -> None:
    observed = Observed(run=seen, outcome=said, progress=heard)

    assert chosen(job(state), observed, of=of, admitted=admitted) == Wait()


@given(st.sampled_from(ACTIVE), attempts, progresses)
def test_an_engine_that_does_not_answer_never_ends_an_attempt(
    state: JobState, of: AttemptRecord, heard: Progress | None
) -> None:
    action = chosen(job(state, attempt=of.number), Observed(run=Unreachable("timeout"), progress=heard), of=of)

    assert isinstance(action, Wait | MarkRunning)


@given(st.sampled_from(ACTIVE), attempts, runs, progresses)
def test_without_a_last_word_an_attempt_ends_only_on_proof(
    state: JobState, of: AttemptRecord, seen: Run | Unreachable | None, heard: Progress | None
) -> None:
    action = chosen(job(state, attempt=of.number), Observed(run=seen, progress=heard), of=of)

    if isinstance(action, Finish | Retry):
        assert of.submitted_at is not None
        assert seen is None or (isinstance(seen, Run) and seen.status.is_terminal)


@given(st.sampled_from(ACTIVE), attempts, st.sampled_from(["succeeded", "stopped", "failed"]))
def test_a_last_word_ends_an_attempt_whatever_the_engine_says(state: JobState, of: AttemptRecord, status: str) -> None:
    seen = Observed(run=Unreachable("timeout"), outcome=outcome(status))

    assert isinstance(chosen(job(state, attempt=of.number), seen, of=of), Finish | Retry)


@given(st.sampled_from(ACTIVE), st.sampled_from([RunStatus.SUCCEEDED, RunStatus.STOPPED, RunStatus.FAILED]))
def test_every_job_ends_after_enough_ended_attempts(state: JobState, status: RunStatus) -> None:
    present, action = job(state), None
    for number in (1, 2, 3):
        action = chosen(replace(present, attempt=number), Observed(run=run(status, PROOFS[0])))
        if isinstance(action, Finish):
            break
        assert isinstance(action, Retry)
        present = replace(present, state=JobState.STARTING, fruitless_attempts=action.fruitless)

    assert isinstance(action, Finish)
    assert action.state.is_terminal


@given(attempts, runs, outcomes, progresses)
def test_a_job_that_is_cancelled_is_never_tried_again_nor_failed(
    of: AttemptRecord, seen: Run | Unreachable | None, said: Outcome | None, heard: Progress | None
) -> None:
    cancelling = job(JobState.CANCELLING, attempt=of.number)

    action = chosen(cancelling, Observed(run=seen, outcome=said, progress=heard), of=of)

    assert not isinstance(action, Retry | Submit | Begin | MarkRunning)
    if isinstance(action, Finish):
        assert action.state in {JobState.CANCELLED, JobState.SUCCEEDED}


UNSUBMITTED = attempt(submitted_at=None)


@pytest.mark.parametrize(
    ("state", "of", "seen", "expected"),
    [
        (JobState.QUEUED, None, Observed(), Begin()),
        (JobState.QUEUED, None, Observed(run=Unreachable("")), Hold("backend_down")),
        (JobState.STARTING, UNSUBMITTED, Observed(), Submit()),
        (JobState.STARTING, UNSUBMITTED, Observed(run=Unreachable("")), Wait()),
        (JobState.STARTING, UNSUBMITTED, Observed(run=run(RunStatus.RUNNING)), Adopt()),
        (JobState.CANCELLING, UNSUBMITTED, Observed(), Revoke()),
        (JobState.CANCELLING, UNSUBMITTED, Observed(run=run(RunStatus.RUNNING)), Adopt()),
        (JobState.STARTING, None, Observed(run=run(RunStatus.PENDING)), Wait()),
        (JobState.STARTING, None, Observed(run=run(RunStatus.RUNNING), progress=progress("preparing")), Wait()),
        (JobState.STARTING, None, Observed(run=run(RunStatus.RUNNING), progress=progress("training")), MarkRunning()),
        (JobState.RUNNING, None, Observed(run=run(RunStatus.RUNNING), progress=progress("training")), Wait()),
        (JobState.CANCELLING, None, Observed(run=run(RunStatus.PENDING)), Stop()),
        (JobState.CANCELLING, None, Observed(run=run(RunStatus.RUNNING)), Stop()),
        (JobState.RUNNING, attempt(submitted_at=NOW), Observed(), Wait()),
    ],
)
def test_each_situation_has_its_next_step(
    state: JobState, of: AttemptRecord | None, seen: Observed, expected: Action
) -> None:
    assert chosen(job(state), seen, of=of) == expected


def test_a_job_behind_others_waits_for_capacity() -> None:
    assert chosen(job(JobState.QUEUED), Observed(), admitted=False) == Hold("waiting_capacity")


@pytest.mark.parametrize("error_type", HEARSAY)
def test_a_lost_supervisor_counts_only_once_the_heartbeat_is_old(error_type: str | None) -> None:
    failed = run(RunStatus.FAILED, error_type)

    fresh = chosen(job(JobState.RUNNING), Observed(run=failed, progress=progress("training", age_seconds=89)))
    stale = chosen(job(JobState.RUNNING), Observed(run=failed, progress=progress("training", age_seconds=91)))

    assert fresh == Wait()
    assert isinstance(stale, Retry)
    assert stale.reason == "driver_lost"


@pytest.mark.parametrize("error_type", PROOFS)
def test_an_entrypoint_that_failed_is_proof_at_once(error_type: str) -> None:
    seen = Observed(run=run(RunStatus.FAILED, error_type), progress=progress("training"))

    assert isinstance(chosen(job(JobState.RUNNING), seen), Retry)


def test_a_run_with_our_id_and_not_our_nonce_is_never_taken_for_ours() -> None:
    action = chosen(job(JobState.STARTING), Observed(run=run(RunStatus.RUNNING, nonce="theirs")), of=UNSUBMITTED)

    assert isinstance(action, Finish)
    assert (action.state, action.reason) == (JobState.FAILED, "submission_conflict")


LOST = Observed(run=run(RunStatus.FAILED, PROOFS[0]))


def worn_out(*, checkpoint: int | None, losses: int = 2) -> JobRecord:
    """A running job that has lost so many attempts in a row without a new checkpoint."""
    seen = progress("training").model_copy(update={"last_checkpoint_images": checkpoint})
    return replace(job(JobState.RUNNING, attempt=7), fruitless_attempts=losses, progress=seen)


def test_the_last_attempt_says_why_there_is_no_other() -> None:
    action = chosen(worn_out(checkpoint=None), LOST)

    assert isinstance(action, Finish)
    assert (action.state, action.reason) == (JobState.FAILED, "retries_exhausted")
    assert "the driver left no outcome" in (action.message or "")


def test_an_attempt_that_left_a_new_checkpoint_was_not_in_vain_however_many_there_were() -> None:
    before = replace(attempt(number=7), from_images=100)

    further = chosen(worn_out(checkpoint=200), LOST, of=before)
    no_further = chosen(worn_out(checkpoint=100), LOST, of=before)

    assert isinstance(further, Retry)
    assert further.fruitless == 1
    assert isinstance(no_further, Finish)


@pytest.mark.parametrize("seen", [Observed(run=None), Observed(outcome=outcome("stopped"))])
def test_what_others_do_to_an_attempt_is_not_held_against_the_job(seen: Observed) -> None:
    action = chosen(worn_out(checkpoint=None), seen)

    assert isinstance(action, Retry)
    assert action.fruitless == 2


def test_a_storage_outage_is_waited_out_by_another_attempt() -> None:
    seen = Observed(outcome=outcome("failed", Reason.STORAGE_ERROR))

    first, last = chosen(worn_out(checkpoint=None, losses=0), seen), chosen(worn_out(checkpoint=None), seen)

    assert isinstance(first, Retry)
    assert first.reason == "storage_error"
    assert isinstance(last, Finish)
