"""What to do next about a job, decided from what is known of it. Pure: standard library only, no reading, no writing.

Unreachable is not dead: an attempt is over only on positive evidence, which `evidence.py` weighs into a `Verdict`.
"""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Literal, assert_never

EventType = Literal[
    "created",
    "attempt_started",
    "state_changed",
    "stop_changed",
    "updated",
    "archived",
    "restored",
    "replay_asked",
    "deleted",
    "rebuilt",
    "backend_unreachable",
    "backend_reachable",
    "heartbeat_lost",
    "heartbeat_back",
    "stalled",
    "progressing",
    "resources_missing",
    "resources_available",
    "tracking_delayed",
    "tracking_current",
]


class JobState(StrEnum):
    """Where a job stands."""

    QUEUED = "queued"
    STARTING = "starting"
    RUNNING = "running"
    RECOVERING = "recovering"
    PAUSING = "pausing"
    PAUSED = "paused"
    CANCELLING = "cancelling"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_terminal(self) -> bool:
        """It has ended. Only `retry` leads out of a failure or a cancellation."""
        return self in {JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED}

    @property
    def is_active(self) -> bool:
        """It holds its workers."""
        return not self.is_terminal and self not in {JobState.QUEUED, JobState.PAUSED}


class Intent(StrEnum):
    """Why a job is to leave the engine."""

    CANCEL = "cancel"
    PAUSE = "pause"
    PREEMPT = "preempt"  # by one of a higher class; it goes back into the queue
    EXPIRE = "expire"  # it has had all the time it asked for
    RESTART = "restart"  # it no longer gets on

    @property
    def is_users(self) -> bool:
        """A user set the deadline: it holds even where the engine cannot be asked."""
        return self in {Intent.CANCEL, Intent.PAUSE, Intent.EXPIRE}


class EngineStatus(StrEnum):
    """What the engine says of an attempt."""

    UNREACHABLE = "unreachable"
    UNKNOWN = "unknown"  # it knows no such submission
    ALIVE = "alive"
    OVER = "over"


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """How an attempt ended, proven. `again` = the cause may pass, and its budget is not used up."""

    ending: "Ending"
    reason: str
    message: str
    again: bool = False
    retry_at: datetime | None = None


class Ending(StrEnum):
    """The ways in which an attempt ends."""

    DONE = "done"
    LEFT = "left"  # it was asked to, and left a checkpoint
    FAILED = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """All that decides. `between` = the last attempt is over, and the next one has not begun."""

    state: JobState
    intent: Intent | None = None
    between: bool = False
    submitted: bool = False
    engine_status: EngineStatus = EngineStatus.UNKNOWN
    verdict: Verdict | None = None
    trains: bool = False  # its newest sign of life says so
    restarts: bool = False  # its workers are being started again within the attempt
    waiting_for: str | None = None  # what the cluster lacks for that, in words
    may_begin: bool = False  # its back-off is over
    expired: bool = False
    stalled: bool = False
    overdue: bool = False  # submitted long ago, and never begun
    force: bool = False  # it had its time to leave


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing to do now."""


@dataclass(frozen=True, slots=True)
class Begin:
    """Write the next attempt down."""


@dataclass(frozen=True, slots=True)
class Submit:
    """Hand the attempt to the engine; it may have it already."""


@dataclass(frozen=True, slots=True)
class Adopt:
    """The engine has the attempt: an answer got lost."""


@dataclass(frozen=True, slots=True)
class Revoke:
    """Take the attempt's claim, so that no driver that is still to come can run it."""


@dataclass(frozen=True, slots=True)
class Stop:
    """Ask the engine to end the attempt."""


@dataclass(frozen=True, slots=True)
class Fence:
    """Make whatever the attempt still does invisible, and count it as over."""


@dataclass(frozen=True, slots=True)
class Ask:
    """Have the job leave the engine, for this reason."""

    intent: Intent


@dataclass(frozen=True, slots=True)
class Move:
    """Put the job into another state. The attempt, if one is open, is over where `closes` says so."""

    to: JobState
    reason: str | None = None
    message: str | None = None
    closes: bool = False
    retry_at: datetime | None = None
    unclean: bool = False


Action = Wait | Begin | Submit | Adopt | Revoke | Stop | Fence | Ask | Move


def decide(facts: Facts) -> Action:
    """The next step of a job; at most one side effect. What waits in the queue is the scheduler's to begin."""
    if not facts.state.is_active:
        return Wait()
    if facts.verdict:
        return conclude(facts.intent, facts.verdict)
    if facts.between:
        return _between(facts)
    if not facts.submitted:
        return _unsubmitted(facts)
    if facts.overdue and facts.engine_status is not EngineStatus.UNREACHABLE:
        return Revoke()
    return _leaving(facts) if facts.intent else _under_way(facts)


def _between(facts: Facts) -> Action:
    if facts.intent:
        return _left(facts.intent, reason=facts.intent.value, message="between two attempts", unclean=False)
    if facts.expired:
        return Ask(Intent.EXPIRE)
    return Begin() if facts.may_begin else Wait()


def _leaving(facts: Facts) -> Action:
    if _is_forced(facts):
        return Fence()
    return Wait() if facts.engine_status is EngineStatus.UNREACHABLE else Stop()


def _is_forced(facts: Facts) -> bool:
    """It had its time. Of an engine that does not answer, only a user's own deadline is held against the attempt."""
    return (
        facts.force
        and facts.intent is not None
        and (facts.intent.is_users or facts.engine_status is not EngineStatus.UNREACHABLE)
    )


def _under_way(facts: Facts) -> Action:
    if facts.expired:
        return Ask(Intent.EXPIRE)
    if facts.stalled and facts.engine_status is EngineStatus.ALIVE:
        return Ask(Intent.RESTART)
    match facts.state:
        case JobState.STARTING | JobState.RECOVERING if facts.trains:
            return Move(JobState.RUNNING)
        case JobState.RUNNING if facts.waiting_for:
            return Move(JobState.RECOVERING, "waiting_for_resources", f"it waits for {facts.waiting_for}")
        case JobState.RUNNING if facts.restarts:
            return Move(JobState.RECOVERING, "worker_lost", "a worker died; the others start again with a new one")
        case _:
            return Wait()


def _unsubmitted(facts: Facts) -> Action:
    match facts.engine_status:
        case EngineStatus.ALIVE | EngineStatus.OVER:
            return Adopt()
        case EngineStatus.UNKNOWN | EngineStatus.UNREACHABLE if facts.expired and not facts.intent:
            return Ask(Intent.EXPIRE)
        case EngineStatus.UNKNOWN:
            return Revoke() if facts.intent else Submit()
        case EngineStatus.UNREACHABLE:
            return Revoke() if _is_forced(facts) else Wait()
        case _:
            assert_never(facts.engine_status)


def conclude(intent: Intent | None, verdict: Verdict) -> Move:
    """The attempt is over: where that leaves the job."""
    failed = verdict.ending is Ending.FAILED
    if verdict.ending is Ending.DONE:
        message = "it was done before it could be made to leave" if intent else verdict.message
        return Move(JobState.SUCCEEDED, None, message or None, closes=True)
    if intent and (not failed or verdict.again or intent is Intent.CANCEL):
        return _left(intent, reason=verdict.reason, message=verdict.message, unclean=failed, retry_at=verdict.retry_at)
    if verdict.again:
        return Move(JobState.RECOVERING, verdict.reason, verdict.message, closes=True, retry_at=verdict.retry_at)
    return Move(JobState.FAILED, verdict.reason, verdict.message, closes=True)


def _left(intent: Intent, *, reason: str, message: str, unclean: bool, retry_at: datetime | None = None) -> Move:
    """It was to leave, and has left; `unclean` = without a last checkpoint."""
    match intent:
        case Intent.CANCEL:
            return Move(JobState.CANCELLED, reason if unclean else None, message, closes=True, unclean=unclean)
        case Intent.PAUSE:
            return Move(JobState.PAUSED, reason if unclean else None, message, closes=True, unclean=unclean)
        case Intent.PREEMPT:
            return Move(JobState.QUEUED, "preempted", message, closes=True, unclean=unclean)
        case Intent.EXPIRE:
            return Move(JobState.FAILED, "max_runtime_exceeded", message, closes=True, unclean=unclean)
        case Intent.RESTART:
            return Move(JobState.RECOVERING, "stalled", message, closes=True, unclean=unclean, retry_at=retry_at)
        case _:
            assert_never(intent)
