"""What users ask for, what happens to the drivers meanwhile, and how it must end: wherever the service is killed.

A driver takes its next action whenever the engine is asked for it, so that a scenario is the same each time.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.support.scripted_ray import CallName, Fault


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """Something a user asks for, as soon as the job is in the state `when`."""

    verb: str
    job: int = 0
    when: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpectedEnd:
    """How a job must end. `attempts`: the numbers that its last attempt may have."""

    state: str = "succeeded"
    reason: str | None = None
    attempts: tuple[int, ...] = (1,)
    unclean: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """`actions`: those of the driver of a job's attempt, where it does not simply succeed. See `scripted_drivers.py`.

    `on_stop`: how a driver takes its SIGTERM: leaves a checkpoint, crashes, or ignores it and is killed at the third.
    `may_repeat`: the engine may be given attempts twice, since it forgot them; the second driver finds its claim taken.
    """

    steps: tuple[Step, ...] = (Step(verb="submit"),)
    actions: Mapping[tuple[int, int], tuple[str, ...]] = field(default_factory=dict)
    ends: tuple[ExpectedEnd, ...] = (ExpectedEnd(),)
    faults: tuple[tuple[Fault, CallName], ...] = ()
    on_stop: str = "leave"
    pending: bool = False  # the first attempts wait in the engine until their actions say "start"
    may_repeat: bool = False
    settings: Mapping[str, Any] = field(default_factory=dict)
    tick_seconds: float = 1.0  # by which the clock moves between two rounds
    ray_timeout_seconds: float = 30.0


DEFAULT_ACTIONS = ("claim", "train", "succeed")
_KEEPS_TRAINING = ("claim", "train")
_LONG_TICK_SECONDS = 10.0

LAUNCH = {
    "launch": Scenario(),
    **{
        f"launch, submission answered by {fault}": Scenario(
            faults=((fault, CallName.SUBMIT),),
            ray_timeout_seconds=1.5 if "timeout" in fault else 30.0,
        )
        for fault in Fault
        if fault not in {Fault.UNKNOWN, Fault.TIMEOUT_BEFORE}
    },
    "launch, submitted twice": Scenario(
        faults=((Fault.ERROR_AFTER, CallName.SUBMIT), (Fault.UNKNOWN, CallName.FIND), (Fault.UNKNOWN, CallName.FIND))
    ),
    "launch, every question fails once": Scenario(
        faults=tuple((Fault.ERROR_BEFORE, name) for name in CallName if name is not CallName.STOP)
    ),
    "launch, the head comes back empty at once": Scenario(
        actions={(0, 1): ("be forgotten", *DEFAULT_ACTIONS)},
        ends=(ExpectedEnd(attempts=(1, 2)),),
        may_repeat=True,
        tick_seconds=_LONG_TICK_SECONDS,
    ),
    "launch, never started and then too late": Scenario(
        actions={(0, 1): ("wait",), (0, 2): ("start", *DEFAULT_ACTIONS)},
        ends=(ExpectedEnd(attempts=(2,)),),
        pending=True,
        settings={"watch": {"start_timeout_seconds": 300}},
        tick_seconds=40.0,
    ),
}
FINISH = {
    "finish, failed for good": Scenario(
        actions={(0, 1): ("claim", "train", "fail")}, ends=(ExpectedEnd(state="failed", reason="data_error"),)
    ),
    "finish, driver lost": Scenario(actions={(0, 1): ("claim", "train", "crash")}, ends=(ExpectedEnd(attempts=(2,)),)),
    "finish, retries exhausted": Scenario(
        actions={(0, 1): ("claim", "train", "crash"), (0, 2): ("claim", "crash")},
        ends=(ExpectedEnd(state="failed", reason="retries_exhausted", attempts=(2,)),),
        settings={"retries": {"platform": 1, "back_off_seconds": 0}},
    ),
    "finish, a false FAILED that is corrected": Scenario(
        actions={(0, 1): ("claim", "train", "appear failed", "heartbeat", "heartbeat", "appear running", "succeed")},
    ),
    "finish, a head that came back empty": Scenario(
        actions={(0, 1): ("claim", "train", "be forgotten")},
        ends=(ExpectedEnd(attempts=(2,)),),
        tick_seconds=_LONG_TICK_SECONDS,
    ),
    "finish, failed and tried again by its user": Scenario(
        steps=(Step(verb="submit"), Step(verb="retry", when="failed")),
        actions={(0, 1): ("claim", "fail")},
        ends=(ExpectedEnd(attempts=(2,)),),
    ),
    "finish, deleted with all it left": Scenario(
        steps=(Step(verb="submit"), Step(verb="delete", when="succeeded", options={"purge": ("checkpoints", "logs")})),
    ),
}
_CANCELLED = ExpectedEnd(state="cancelled")
STOP = {
    "stop, cancelled in the queue": Scenario(
        steps=(Step(verb="submit"), Step(verb="cancel", when="queued")),
        ends=(ExpectedEnd(state="cancelled", attempts=(0,)),),
    ),
    "stop, cancelled before it was submitted": Scenario(
        steps=(Step(verb="submit"), Step(verb="cancel", when="starting")), ends=(_CANCELLED,)
    ),
    "stop, cancelled with grace": Scenario(
        steps=(Step(verb="submit"), Step(verb="cancel", when="running")),
        actions={(0, 1): _KEEPS_TRAINING},
        ends=(_CANCELLED,),
    ),
    "stop, cancelled and ended without an outcome": Scenario(
        steps=(Step(verb="submit"), Step(verb="cancel", when="running")),
        actions={(0, 1): _KEEPS_TRAINING},
        on_stop="crash",
        ends=(ExpectedEnd(state="cancelled", reason="stopped", unclean=True),),
    ),
    "stop, cancelled now and SIGTERM ignored": Scenario(
        steps=(Step(verb="submit"), Step(verb="cancel", when="running", options={"mode": "now"})),
        actions={(0, 1): _KEEPS_TRAINING},
        on_stop="ignore",
        ends=(ExpectedEnd(state="cancelled", reason="stopped", unclean=True),),
    ),
    "stop, cancelled while pending": Scenario(
        steps=(Step(verb="submit"), Step(verb="cancel", when="submitted")),
        actions={(0, 1): ("wait", "wait", "wait", "start")},
        on_stop="crash",
        pending=True,
        ends=(ExpectedEnd(state="cancelled", reason="stopped", unclean=True),),
    ),
    "stop, cancelled while the engine answers nothing": Scenario(
        steps=(Step(verb="submit"), Step(verb="cancel", when="running")),
        actions={(0, 1): _KEEPS_TRAINING},
        ends=(_CANCELLED,),
        faults=((Fault.DROP_AFTER, CallName.STOP), (Fault.DROP_BEFORE, CallName.STOP)),
    ),
    "stop, paused and resumed": Scenario(
        steps=(Step(verb="submit"), Step(verb="pause", when="running"), Step(verb="resume", when="paused")),
        actions={(0, 1): _KEEPS_TRAINING},
        ends=(ExpectedEnd(attempts=(2,)),),
    ),
    "stop, preempted": Scenario(
        steps=(
            Step(verb="submit", options={"priority": "low"}),
            Step(verb="submit", job=1, when="running", options={"priority": "high"}),
        ),
        actions={(0, 1): _KEEPS_TRAINING},
        ends=(ExpectedEnd(attempts=(2,)), ExpectedEnd()),
        settings={"max_active_jobs": 4},
    ),
    "stop, out of time": Scenario(
        steps=(Step(verb="submit", options={"max_runtime_seconds": 60.0}),),
        actions={(0, 1): _KEEPS_TRAINING},
        ends=(ExpectedEnd(state="failed", reason="max_runtime_exceeded"),),
        tick_seconds=_LONG_TICK_SECONDS,
    ),
    "stop, stalled and started again": Scenario(
        actions={(0, 1): ("claim", "train", *["heartbeat without progress"] * 40)},
        ends=(ExpectedEnd(attempts=(2,)),),
        settings={"watch": {"stall_timeout_seconds": 60, "restart_stalled": True}},
        tick_seconds=_LONG_TICK_SECONDS,
    ),
}
SCENARIOS: dict[str, Scenario] = {**LAUNCH, **FINISH, **STOP}
