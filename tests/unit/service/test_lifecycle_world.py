"""`decide` in a small world that does its worst: nothing is run twice, and all that is wanted happens in the end.

The world has a job, an engine that loses answers, memory and drivers, and an object store of claims and outcomes. What
the reconciler would know and do is written here in a few lines, so that thousands of histories can be played.
"""

from dataclasses import dataclass, field
from typing import assert_never

from hypothesis import given, settings
from hypothesis import strategies as st

from service.jobs.lifecycle import (
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
    conclude,
    decide,
)

DONE = Verdict(ending=Ending.DONE, reason="", message="")
LEFT = Verdict(ending=Ending.LEFT, reason="stopped", message="left")
LOST = Verdict(ending=Ending.FAILED, reason="driver_lost", message="lost", again=True)
BROKEN = Verdict(ending=Ending.FAILED, reason="data_error", message="no images")
ENOUGH = 40  # looks, within which whatever can happen has happened


@dataclass
class World:
    """`engine` has every attempt that it knows of: waiting, alive, or over. Claims are never taken back."""

    state: JobState = JobState.QUEUED
    intent: Intent | None = None
    attempt: int = 0
    between: bool = False
    submitted: bool = False
    restarts: bool = False
    expired: bool = False
    stalled: bool = False
    overdue: bool = False
    force: bool = False
    reachable: bool = True
    obedient: bool = False  # whether drivers leave when they are asked to
    loses_answer: bool = False
    engine: dict[int, str] = field(default_factory=dict)
    claims: dict[int, str] = field(default_factory=dict)
    outcomes: dict[int, Verdict] = field(default_factory=dict)
    alive: set[int] = field(default_factory=set)  # processes that train, whether the engine knows of them or not
    times_run: dict[int, int] = field(default_factory=dict)

    @property
    def newest_claim(self) -> int:
        return max(self.claims, default=0)

    def facts(self) -> Facts:
        if not self.state.is_active or self.between:
            return Facts(
                state=self.state, intent=self.intent, between=self.between, may_begin=True, expired=self.expired
            )
        says = self.engine.get(self.attempt)
        engine_status = (
            EngineStatus.ALIVE if says in {"waiting", "alive"} else EngineStatus.OVER if says else EngineStatus.UNKNOWN
        )
        engine_status = engine_status if self.reachable else EngineStatus.UNREACHABLE
        trains = self.attempt in self.alive
        verdict = self.outcomes.get(self.attempt)
        is_gone = self.submitted and not trains and engine_status in {EngineStatus.OVER, EngineStatus.UNKNOWN}
        return Facts(
            state=self.state,
            intent=self.intent,
            submitted=self.submitted,
            engine_status=engine_status,
            verdict=verdict or (LOST if is_gone else None),
            trains=trains and not self.restarts,
            restarts=trains and self.restarts,
            expired=self.expired,
            stalled=self.stalled and self.state is JobState.RUNNING,
            overdue=self.overdue and self.submitted and self.claims.get(self.attempt) != "driver",
            force=self.force and self.intent is not None,
        )

    def look(self) -> None:
        """One look of the reconciler, and of the scheduler, whose queue is empty but for this job."""
        action = Begin() if self.state is JobState.QUEUED else decide(self.facts())
        match action:
            case Wait():
                pass
            case Begin():
                self.attempt = max(self.attempt, self.newest_claim) + 1
                self.state, self.between, self.submitted, self.restarts = JobState.STARTING, False, False, False
            case Submit():
                assert self.reachable
                assert self.attempt not in self.engine
                self.engine[self.attempt] = "waiting"
                self.submitted, self.loses_answer = not self.loses_answer, False
            case Adopt():
                self.submitted = True
            case Revoke():
                self.revoke()
            case Stop():
                self.stop()
            case Fence():
                self.claims.setdefault(self.attempt + 1, "service")
                self.move(conclude(self.intent, LOST))
            case Ask():
                self.ask(action.intent)
            case Move():
                self.move(action)
            case _:
                assert_never(action)

    def revoke(self) -> None:
        if self.claims.setdefault(self.attempt, "service") == "driver":
            self.submitted = True
        else:
            self.move(conclude(self.intent, LEFT if self.intent else LOST))

    def stop(self) -> None:
        if self.attempt in self.alive and self.obedient:
            self.end(self.attempt, LEFT)

    def move(self, move: Move) -> None:
        self.state = move.to
        self.between = self.between or move.closes
        if not move.to.is_active or (move.closes and move.to is JobState.RECOVERING):
            self.intent, self.force = None, False
        if not move.to.is_active:
            self.between = False

    def ask(self, intent: Intent) -> None:
        """As `records.asked` does, for the service or for a user; only what runs can be asked."""
        if self.state.is_active and self.intent is not Intent.CANCEL:
            leaving = intent in {Intent.CANCEL, Intent.EXPIRE}
            self.intent, self.force = intent, False
            self.expired |= intent is Intent.EXPIRE
            self.state = JobState.CANCELLING if leaving else JobState.PAUSING

    def end(self, attempt: int, verdict: Verdict | None) -> None:
        """A driver ends, with a last record or without."""
        self.alive.discard(attempt)
        if verdict:
            self.outcomes[attempt] = verdict
        if attempt in self.engine:
            self.engine[attempt] = "over"

    def start_drivers(self) -> None:
        for attempt, says in self.engine.items():
            if says == "waiting":
                refused = self.newest_claim > attempt or attempt in self.claims
                self.engine[attempt] = "over" if refused else "alive"
                if not refused:
                    self.claims[attempt] = "driver"
                    self.alive.add(attempt)
                    self.times_run[attempt] = self.times_run.get(attempt, 0) + 1

    def leave_fenced(self) -> None:
        """A driver that is behind finds that out before it shows anything more."""
        for attempt in [one for one in self.alive if one < self.newest_claim]:
            self.end(attempt, None)

    def happen(self, event: str) -> None:
        running = self.attempt if self.attempt in self.alive else None
        match event:
            case "cut" | "mend":
                self.reachable = event == "mend"
            case "start":
                self.start_drivers()
            case "restart workers" | "train":
                self.restarts = event == "restart workers"
            case "expire" | "stall" | "get on" | "be late":
                self.expired |= event == "expire"
                self.stalled = event == "stall"
                self.overdue = event == "be late"
            case "run out of time":
                self.force = self.intent is not None
            case "lose answer":
                self.loses_answer = True
            case "forget":
                self.engine.clear()
            case "die" | "succeed" | "break" if running:
                self.end(running, {"die": None, "succeed": DONE, "break": BROKEN}[event])
            case "cancel" | "pause" | "preempt":
                self.ask(Intent(event))
            case _:
                pass

    def check(self) -> None:
        visible = [attempt for attempt in self.alive if attempt >= self.newest_claim]
        assert len(visible) <= 1, "two attempts could both be seen"
        assert all(times == 1 for times in self.times_run.values()), "an attempt was run twice"
        assert self.state is not JobState.SUCCEEDED or DONE in self.outcomes.values()
        assert self.state is not JobState.FAILED or self.expired or BROKEN in self.outcomes.values()
        assert (self.intent is None) == (self.state not in {JobState.PAUSING, JobState.CANCELLING})


EVENTS = (
    "look",
    "look",
    "start",
    "cut",
    "mend",
    "restart workers",
    "train",
    "expire",
    "stall",
    "get on",
    "be late",
    "run out of time",
    "lose answer",
    "forget",
    "die",
    "succeed",
    "break",
    "cancel",
    "pause",
    "preempt",
)
histories = st.lists(st.sampled_from(EVENTS), max_size=60)


def after(history: list[str]) -> World:
    world = World()
    for event in history:
        if event == "look":
            world.look()
        else:
            world.happen(event)
        world.check()
    return world


@settings(max_examples=300, deadline=None)
@given(histories)
def test_nothing_runs_twice_and_no_job_ends_without_a_reason_whatever_happens(history: list[str]) -> None:
    after(history)


@settings(max_examples=300, deadline=None)
@given(histories)
def test_every_wish_is_served_once_the_engine_answers(history: list[str]) -> None:
    world = after(history)
    wished = world.intent
    world.reachable, world.obedient, world.stalled = True, True, False
    for _ in range(ENOUGH):
        if world.intent is not wished:
            break
        world.start_drivers()
        world.leave_fenced()
        world.look()
        world.check()

    assert wished is None or world.intent is None


@settings(max_examples=300, deadline=None)
@given(histories, st.sampled_from([Intent.CANCEL, Intent.PAUSE, Intent.EXPIRE]))
def test_a_users_deadline_holds_even_if_the_engine_never_answers_again(history: list[str], intent: Intent) -> None:
    world = after(history)
    world.reachable = False
    world.ask(intent)
    for _ in range(ENOUGH):
        world.force = world.intent is not None
        world.look()
        world.check()

    assert world.intent is None


@settings(max_examples=300, deadline=None)
@given(histories)
def test_every_job_comes_to_an_end_once_its_drivers_do(history: list[str]) -> None:
    world = after(history)
    world.reachable, world.obedient, world.stalled, world.overdue = True, True, False, False
    for _ in range(ENOUGH):
        world.start_drivers()
        world.leave_fenced()
        world.look()
        world.happen("succeed")
        world.check()

    assert world.state in {JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED, JobState.PAUSED}
