"""What `decide` may and may not do, over everything that can be known of a job."""

import ast
import itertools
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.jobs import lifecycle
from service.jobs.lifecycle import (
    Action,
    Adopt,
    Ask,
    Begin,
    Ending,
    EngineStatus,
    Facts,
    Fence,
    Intent,
    JobState,
    Move,
    Revoke,
    Stop,
    Submit,
    Verdict,
    Wait,
    decide,
)

VERDICTS = [
    Verdict(ending=Ending.DONE, reason="", message=""),
    Verdict(ending=Ending.LEFT, reason="stopped", message="left at 200 images"),
    Verdict(ending=Ending.FAILED, reason="driver_lost", message="it is gone", again=True),
    Verdict(ending=Ending.FAILED, reason="data_error", message="no images", again=False),
]
# how states and intents go together; a rebuilt job may be starting with any intent
POSSIBLE = [
    (JobState.QUEUED, None),
    *((state, None) for state in (JobState.STARTING, JobState.RUNNING, JobState.RECOVERING)),
    *((JobState.PAUSING, intent) for intent in (Intent.PAUSE, Intent.PREEMPT, Intent.RESTART)),
    *((JobState.CANCELLING, intent) for intent in (Intent.CANCEL, Intent.EXPIRE)),
    *((state, None) for state in JobState if state.is_terminal),
    (JobState.PAUSED, None),
]
FLAGS = ("submitted", "trains", "restarts", "waits", "may_begin", "expired", "stalled", "overdue", "force", "between")

Law = Callable[[Facts, Action], None]


anything = st.builds(
    lambda state, intent, engine_status, verdict, flags: _case(state, intent, engine_status, verdict, flags),
    st.sampled_from(JobState),
    st.none() | st.sampled_from(Intent),
    st.sampled_from(EngineStatus),
    st.none() | st.sampled_from(VERDICTS),
    st.integers(0, 2 ** len(FLAGS) - 1),
)


def everything_possible() -> Iterator[Facts]:
    """All that is known of a job whose state and intent go together, and that has an open attempt if it must."""
    for (state, intent), engine_status, verdict in itertools.product(POSSIBLE, EngineStatus, [None, *VERDICTS]):
        may_be_between = state in {JobState.RECOVERING, JobState.PAUSING, JobState.CANCELLING}
        for flags in range(2 ** len(FLAGS) if may_be_between else 2 ** (len(FLAGS) - 1)):
            yield _case(state, intent, engine_status, verdict, flags)


def _case(
    state: JobState, intent: Intent | None, engine_status: EngineStatus, verdict: Verdict | None, flags: int
) -> Facts:
    given = {flag: bool(flags >> place & 1) for place, flag in enumerate(FLAGS)}
    waiting_for = "1 GPU" if given.pop("waits") else None
    return Facts(
        state=state, intent=intent, engine_status=engine_status, verdict=verdict, waiting_for=waiting_for, **given
    )


def a_job_that_rests_or_queues_never_moves_by_itself(facts: Facts, action: Action) -> None:
    """What leaves the queue, and when, the scheduler decides."""
    if not facts.state.is_active:
        assert isinstance(action, Wait)


def an_engine_that_does_not_answer_never_ends_stops_or_replaces_an_attempt(facts: Facts, action: Action) -> None:
    """But for a user's own deadline, when it has passed."""
    if (
        not facts.state.is_active
        or facts.between
        or facts.verdict
        or facts.engine_status is not EngineStatus.UNREACHABLE
    ):
        return
    assert not isinstance(action, Begin | Submit | Adopt | Stop)
    if isinstance(action, Fence | Revoke):
        assert facts.force
        assert facts.intent in {Intent.CANCEL, Intent.PAUSE, Intent.EXPIRE}
    if isinstance(action, Move):
        assert not action.closes
    if isinstance(action, Ask):
        assert action.intent is Intent.EXPIRE


def nothing_begins_unless_it_may_and_nothing_else_is_under_way(facts: Facts, action: Action) -> None:
    if isinstance(action, Begin):
        assert facts.may_begin
        assert facts.state.is_active
        assert facts.between
        assert facts.intent is None


def an_attempt_is_never_submitted_twice_nor_once_it_is_to_leave(facts: Facts, action: Action) -> None:
    if isinstance(action, Submit):
        assert facts.state.is_active
        assert not facts.submitted
        assert not facts.between
        assert facts.intent is None
        assert facts.engine_status is EngineStatus.UNKNOWN


def what_the_engine_has_is_adopted_before_anything_else_is_done_to_it(facts: Facts, action: Action) -> None:
    is_open = facts.state.is_active and not facts.between and not facts.verdict
    if is_open and not facts.submitted and facts.engine_status in {EngineStatus.ALIVE, EngineStatus.OVER}:
        assert isinstance(action, Adopt)


def only_an_attempt_that_is_open_is_acted_on(facts: Facts, action: Action) -> None:
    if isinstance(action, Submit | Adopt | Revoke | Stop | Fence):
        assert facts.state.is_active
        assert not facts.between
    if isinstance(action, Stop | Fence):
        assert facts.submitted
        assert facts.intent
    if isinstance(action, Ask):
        assert facts.state.is_active
        assert facts.intent is None


def an_attempt_is_closed_by_a_verdict_and_by_nothing_else(facts: Facts, action: Action) -> None:
    if isinstance(action, Move) and action.closes:
        assert facts.verdict or facts.between
    if facts.state.is_active and facts.verdict:
        assert isinstance(action, Move)
        assert action.closes


def a_success_is_one_whatever_else_was_wanted(facts: Facts, action: Action) -> None:
    if facts.state.is_active and facts.verdict and facts.verdict.ending is Ending.DONE:
        assert isinstance(action, Move)
        assert action.to is JobState.SUCCEEDED


def a_job_that_is_cancelled_is_neither_failed_nor_tried_again(facts: Facts, action: Action) -> None:
    if facts.intent is Intent.CANCEL and facts.state.is_active:
        assert not isinstance(action, Begin | Submit | Ask)
        if isinstance(action, Move) and action.closes:
            assert action.to in {JobState.CANCELLED, JobState.SUCCEEDED}


def a_pause_does_not_hide_a_failure_that_would_come_again(facts: Facts, action: Action) -> None:
    verdict = facts.verdict
    if facts.state.is_active and facts.intent is Intent.PAUSE and verdict and verdict.ending is Ending.FAILED:
        assert isinstance(action, Move)
        assert action.to is (JobState.PAUSED if verdict.again else JobState.FAILED)
        assert action.unclean is verdict.again


LAWS: list[Law] = [
    a_job_that_rests_or_queues_never_moves_by_itself,
    an_engine_that_does_not_answer_never_ends_stops_or_replaces_an_attempt,
    nothing_begins_unless_it_may_and_nothing_else_is_under_way,
    an_attempt_is_never_submitted_twice_nor_once_it_is_to_leave,
    what_the_engine_has_is_adopted_before_anything_else_is_done_to_it,
    only_an_attempt_that_is_open_is_acted_on,
    an_attempt_is_closed_by_a_verdict_and_by_nothing_else,
    a_success_is_one_whatever_else_was_wanted,
    a_job_that_is_cancelled_is_neither_failed_nor_tried_again,
    a_pause_does_not_hide_a_failure_that_would_come_again,
]


def hold(facts: Facts) -> None:
    action = decide(facts)
    for law in LAWS:
        law(facts, action)


def test_every_law_holds_in_every_case_that_can_come_up() -> None:
    for facts in everything_possible():
        hold(facts)


@settings(max_examples=500, deadline=None)
@given(anything)
def test_every_law_holds_even_where_the_facts_contradict_each_other(facts: Facts) -> None:
    hold(facts)


EXITS: dict[JobState, set[JobState]] = {
    JobState.STARTING: {
        JobState.RUNNING,
        JobState.RECOVERING,
        JobState.SUCCEEDED,
        JobState.FAILED,
        JobState.CANCELLING,
        JobState.PAUSING,
    },
    JobState.RUNNING: {
        JobState.RECOVERING,
        JobState.SUCCEEDED,
        JobState.FAILED,
        JobState.CANCELLING,
        JobState.PAUSING,
    },
    JobState.RECOVERING: {
        JobState.STARTING,
        JobState.RUNNING,
        JobState.RECOVERING,
        JobState.SUCCEEDED,
        JobState.FAILED,
        JobState.CANCELLING,
        JobState.PAUSING,
    },
    JobState.PAUSING: {
        JobState.PAUSED,
        JobState.QUEUED,
        JobState.RECOVERING,
        JobState.SUCCEEDED,
        JobState.FAILED,
    },
    JobState.CANCELLING: {JobState.CANCELLED, JobState.FAILED, JobState.SUCCEEDED},
}


def test_states_lead_to_the_states_they_may_lead_to_and_to_no_others_by_all_that_can_be_done() -> None:
    found: dict[JobState, set[JobState]] = {}
    done: set[type[Action]] = set()
    for facts in everything_possible():
        action = decide(facts)
        done.add(type(action))
        match action:
            case Move():
                found.setdefault(facts.state, set()).add(action.to)
            case Begin():
                found.setdefault(facts.state, set()).add(JobState.STARTING)
            case Ask():
                leaving = JobState.CANCELLING if action.intent is Intent.EXPIRE else JobState.PAUSING
                found.setdefault(facts.state, set()).add(leaving)
            case _:
                pass

    assert found == EXITS
    assert done == {Wait, Begin, Submit, Adopt, Revoke, Stop, Fence, Ask, Move}


OPEN = Facts(state=JobState.STARTING)
TAKEN = replace(OPEN, submitted=True, engine_status=EngineStatus.ALIVE)
RUNNING = replace(TAKEN, state=JobState.RUNNING, trains=True)
CANCELLING = replace(RUNNING, state=JobState.CANCELLING, intent=Intent.CANCEL)


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        (Facts(state=JobState.QUEUED, may_begin=True), Wait()),
        (OPEN, Submit()),
        (replace(OPEN, engine_status=EngineStatus.UNREACHABLE), Wait()),
        (replace(OPEN, engine_status=EngineStatus.ALIVE), Adopt()),
        (replace(OPEN, engine_status=EngineStatus.OVER), Adopt()),
        (replace(OPEN, intent=Intent.CANCEL), Revoke()),
        (replace(OPEN, intent=Intent.CANCEL, engine_status=EngineStatus.UNREACHABLE), Wait()),
        (replace(OPEN, intent=Intent.CANCEL, engine_status=EngineStatus.UNREACHABLE, force=True), Revoke()),
        (replace(OPEN, intent=Intent.PREEMPT, engine_status=EngineStatus.UNREACHABLE, force=True), Wait()),
        (replace(OPEN, intent=Intent.CANCEL, engine_status=EngineStatus.ALIVE), Adopt()),
        (replace(OPEN, expired=True), Ask(Intent.EXPIRE)),
        (replace(OPEN, expired=True, engine_status=EngineStatus.UNREACHABLE), Ask(Intent.EXPIRE)),
        (replace(OPEN, expired=True, engine_status=EngineStatus.ALIVE), Adopt()),
        (replace(OPEN, expired=True, intent=Intent.EXPIRE), Revoke()),
        (
            replace(OPEN, expired=True, intent=Intent.EXPIRE, engine_status=EngineStatus.UNREACHABLE, force=True),
            Revoke(),
        ),
        (TAKEN, Wait()),
        (replace(TAKEN, trains=True), Move(JobState.RUNNING)),
        (replace(TAKEN, overdue=True), Revoke()),
        (replace(TAKEN, overdue=True, engine_status=EngineStatus.UNREACHABLE), Wait()),
        (RUNNING, Wait()),
        (replace(RUNNING, expired=True), Ask(Intent.EXPIRE)),
        (replace(RUNNING, expired=True, engine_status=EngineStatus.UNREACHABLE), Ask(Intent.EXPIRE)),
        (replace(RUNNING, stalled=True), Ask(Intent.RESTART)),
        (replace(RUNNING, stalled=True, engine_status=EngineStatus.UNREACHABLE), Wait()),
        (replace(RUNNING, stalled=True, engine_status=EngineStatus.UNKNOWN), Wait()),
        (CANCELLING, Stop()),
        (replace(CANCELLING, engine_status=EngineStatus.UNREACHABLE), Wait()),
        (replace(CANCELLING, force=True), Fence()),
        (replace(CANCELLING, force=True, engine_status=EngineStatus.UNREACHABLE), Fence()),
        (replace(CANCELLING, intent=Intent.RESTART, force=True, engine_status=EngineStatus.UNREACHABLE), Wait()),
        (Facts(state=JobState.RECOVERING, between=True), Wait()),
        (Facts(state=JobState.RECOVERING, between=True, may_begin=True), Begin()),
        (Facts(state=JobState.RECOVERING, between=True, may_begin=True, expired=True), Ask(Intent.EXPIRE)),
    ],
)
def test_each_situation_has_its_next_step(facts: Facts, expected: Action) -> None:
    assert decide(facts) == expected


def test_workers_that_start_again_within_an_attempt_are_shown_as_recovering_and_back() -> None:
    lost = decide(replace(RUNNING, trains=False, restarts=True))
    back = decide(replace(RUNNING, state=JobState.RECOVERING))

    assert isinstance(lost, Move)
    assert (lost.to, lost.reason, lost.closes) == (JobState.RECOVERING, "worker_lost", False)
    assert back == Move(JobState.RUNNING)


def test_workers_that_wait_for_what_the_cluster_lacks_say_for_what_whatever_else_is_known() -> None:
    waiting = decide(replace(RUNNING, trains=False, restarts=True, waiting_for="1 GPU"))

    assert waiting == Move(JobState.RECOVERING, "waiting_for_resources", "it waits for 1 GPU")


@pytest.mark.parametrize(
    ("intent", "state", "reason"),
    [
        (Intent.CANCEL, JobState.CANCELLED, None),
        (Intent.PAUSE, JobState.PAUSED, None),
        (Intent.PREEMPT, JobState.QUEUED, "preempted"),
        (Intent.EXPIRE, JobState.FAILED, "max_runtime_exceeded"),
        (Intent.RESTART, JobState.RECOVERING, "stalled"),
    ],
)
def test_a_job_that_left_as_it_was_asked_to_is_where_that_leads(
    intent: Intent, state: JobState, reason: str | None
) -> None:
    action = decide(replace(RUNNING, intent=intent, verdict=VERDICTS[1]))

    assert action == Move(state, reason, "left at 200 images", closes=True)


@pytest.mark.parametrize("intent", Intent)
def test_a_job_that_was_taken_by_force_says_so(intent: Intent) -> None:
    action = decide(replace(RUNNING, intent=intent, verdict=VERDICTS[2]))

    assert isinstance(action, Move)
    assert action.unclean
    assert action.reason


@pytest.mark.parametrize(
    ("intent", "state", "reason"),
    [
        (Intent.CANCEL, JobState.CANCELLED, "data_error"),
        (Intent.PAUSE, JobState.FAILED, "data_error"),
        (Intent.PREEMPT, JobState.FAILED, "data_error"),
        (Intent.EXPIRE, JobState.FAILED, "data_error"),
        (Intent.RESTART, JobState.FAILED, "data_error"),
    ],
)
def test_a_failure_that_would_come_again_is_named_whatever_the_job_was_to_leave_for(
    intent: Intent, state: JobState, reason: str
) -> None:
    action = decide(replace(RUNNING, intent=intent, verdict=VERDICTS[3]))

    assert isinstance(action, Move)
    assert (action.to, action.reason, action.message) == (state, reason, "no images")


def test_the_decision_needs_the_standard_library_only() -> None:
    tree = ast.parse(Path(lifecycle.__file__).read_text())
    imported = {
        (node.module or "").split(".")[0] if isinstance(node, ast.ImportFrom) else alias.name.split(".")[0]
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
    }

    assert imported <= sys.stdlib_module_names
