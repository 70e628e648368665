"""What users ask for, what happens to the drivers meanwhile, and how it must end: wherever the service is killed.

A driver takes the next act of its life whenever the engine is asked for it, so that a story is the same each time.
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
class End:
    """How a job must end. `attempts`: the numbers that its last attempt may have."""

    state: str = "succeeded"
    reason: str | None = None
    attempts: tuple[int, ...] = (1,)
    unclean: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Story:
    """`lives`: acts of the driver of a job's attempt, where it does not simply succeed. See `drivers.py`.

    `on_stop`: how a driver takes its SIGTERM: leaves a checkpoint, dies, or ignores it and is killed at the third.
    `may_repeat`: the engine may be given attempts twice, since it forgot them; the second driver finds its claim taken.
    """

    steps: tuple[Step, ...] = (Step(verb="submit"),)
    lives: Mapping[tuple[int, int], tuple[str, ...]] = field(default_factory=dict)
    ends: tuple[End, ...] = (End(),)
    faults: tuple[tuple[Fault, CallName], ...] = ()
    on_stop: str = "leave"
    pending: bool = False  # the first attempts wait in the engine until their life says "start"
    may_repeat: bool = False
    settings: Mapping[str, Any] = field(default_factory=dict)
    pace_seconds: float = 1.0  # by which the clock moves between two looks
    patience_seconds: float = 30.0  # with the engine


LIFE = ("claim", "train", "succeed")
_STAYS = ("claim", "train")
_LONG = 10.0

LAUNCH = {
    "launch": Story(),
    **{
        f"launch, submission answered by {fault}": Story(
            faults=((fault, CallName.SUBMIT),),
            patience_seconds=1.5 if "timeout" in fault else 30.0,
        )
        for fault in Fault
        if fault not in {Fault.UNKNOWN, Fault.TIMEOUT_BEFORE}
    },
    "launch, submitted twice": Story(
        faults=((Fault.ERROR_AFTER, CallName.SUBMIT), (Fault.UNKNOWN, CallName.FIND), (Fault.UNKNOWN, CallName.FIND))
    ),
    "launch, every question fails once": Story(
        faults=tuple((Fault.ERROR_BEFORE, name) for name in CallName if name is not CallName.STOP)
    ),
    "launch, the head comes back empty at once": Story(
        lives={(0, 1): ("vanish", *LIFE)}, ends=(End(attempts=(1, 2)),), may_repeat=True, pace_seconds=_LONG
    ),
    "launch, never started and then too late": Story(
        lives={(0, 1): ("wait",), (0, 2): ("start", *LIFE)},
        ends=(End(attempts=(2,)),),
        pending=True,
        settings={"watch": {"start_timeout_seconds": 300}},
        pace_seconds=40.0,
    ),
}
FINISH = {
    "finish, failed for good": Story(
        lives={(0, 1): ("claim", "train", "fail")}, ends=(End(state="failed", reason="data_error"),)
    ),
    "finish, driver lost": Story(lives={(0, 1): ("claim", "train", "die")}, ends=(End(attempts=(2,)),)),
    "finish, retries exhausted": Story(
        lives={(0, 1): ("claim", "train", "die"), (0, 2): ("claim", "die")},
        ends=(End(state="failed", reason="retries_exhausted", attempts=(2,)),),
        settings={"retries": {"platform": 1, "back_off_seconds": 0}},
    ),
    "finish, a false FAILED that heals": Story(
        lives={(0, 1): ("claim", "train", "lie", "beat", "beat", "heal", "succeed")},
    ),
    "finish, a head that came back empty": Story(
        lives={(0, 1): ("claim", "train", "vanish")}, ends=(End(attempts=(2,)),), pace_seconds=_LONG
    ),
    "finish, failed and tried again by its user": Story(
        steps=(Step(verb="submit"), Step(verb="retry", when="failed")),
        lives={(0, 1): ("claim", "fail")},
        ends=(End(attempts=(2,)),),
    ),
    "finish, deleted with all it left": Story(
        steps=(Step(verb="submit"), Step(verb="delete", when="succeeded", options={"purge": ("checkpoints", "logs")})),
    ),
}
_CANCELLED = End(state="cancelled")
STOP = {
    "stop, cancelled in the queue": Story(
        steps=(Step(verb="submit"), Step(verb="cancel", when="queued")), ends=(End(state="cancelled", attempts=(0,)),)
    ),
    "stop, cancelled before it was submitted": Story(
        steps=(Step(verb="submit"), Step(verb="cancel", when="starting")), ends=(_CANCELLED,)
    ),
    "stop, cancelled with grace": Story(
        steps=(Step(verb="submit"), Step(verb="cancel", when="running")), lives={(0, 1): _STAYS}, ends=(_CANCELLED,)
    ),
    "stop, cancelled and gone without a word": Story(
        steps=(Step(verb="submit"), Step(verb="cancel", when="running")),
        lives={(0, 1): _STAYS},
        on_stop="die",
        ends=(End(state="cancelled", reason="stopped", unclean=True),),
    ),
    "stop, cancelled now and deaf": Story(
        steps=(Step(verb="submit"), Step(verb="cancel", when="running", options={"mode": "now"})),
        lives={(0, 1): _STAYS},
        on_stop="ignore",
        ends=(End(state="cancelled", reason="stopped", unclean=True),),
    ),
    "stop, cancelled while pending": Story(
        steps=(Step(verb="submit"), Step(verb="cancel", when="submitted")),
        lives={(0, 1): ("wait", "wait", "wait", "start")},
        on_stop="die",
        pending=True,
        ends=(End(state="cancelled", reason="stopped", unclean=True),),
    ),
    "stop, cancelled while the engine answers nothing": Story(
        steps=(Step(verb="submit"), Step(verb="cancel", when="running")),
        lives={(0, 1): _STAYS},
        ends=(_CANCELLED,),
        faults=((Fault.DROP_AFTER, CallName.STOP), (Fault.DROP_BEFORE, CallName.STOP)),
    ),
    "stop, paused and resumed": Story(
        steps=(Step(verb="submit"), Step(verb="pause", when="running"), Step(verb="resume", when="paused")),
        lives={(0, 1): _STAYS},
        ends=(End(attempts=(2,)),),
    ),
    "stop, preempted": Story(
        steps=(
            Step(verb="submit", options={"priority": "low"}),
            Step(verb="submit", job=1, when="running", options={"priority": "high"}),
        ),
        lives={(0, 1): _STAYS},
        ends=(End(attempts=(2,)), End()),
        settings={"max_active_jobs": 4},
    ),
    "stop, out of time": Story(
        steps=(Step(verb="submit", options={"max_runtime_seconds": 60.0}),),
        lives={(0, 1): _STAYS},
        ends=(End(state="failed", reason="max_runtime_exceeded"),),
        pace_seconds=_LONG,
    ),
    "stop, stalled and started again": Story(
        lives={(0, 1): ("claim", "train", *["beat without getting on"] * 40)},
        ends=(End(attempts=(2,)),),
        settings={"watch": {"stall_timeout_seconds": 60, "restart_stalled": True}},
        pace_seconds=_LONG,
    ),
}
STORIES: dict[str, Story] = {**LAUNCH, **FINISH, **STOP}
