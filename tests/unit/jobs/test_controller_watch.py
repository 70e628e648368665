"""What a job is told while Ray Train waits for room, and that workers save before they are resized.

Ray Train itself calls the watch in `chaos/test_training_faults.py`.
"""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
import ray
from ray.exceptions import ActorUnavailableError
from ray.train.v2._internal.execution.controller.state import (
    FinishedState,
    InitializingState,
    ReschedulingState,
    ResizingState,
    RestartingState,
    RunningState,
    TrainControllerState,
)
from ray.train.v2._internal.execution.scaling_policy import ResizeDecision
from ray.train.v2.api.exceptions import ControllerError

from tests.support.specs import smoke_spec
from workers.contract.keys import MANIFEST
from workers.contract.records import Progress, TimeBreakdown
from workers.jobs.controller_watch import ControllerWatch, waiting
from workers.jobs.failures import LeftWaitingError
from workers.jobs.signals import Asked
from workers.storage.memory import MemoryStore
from workers.tracking.heartbeat import first_word
from workers.training.run import Run

FAILED = ControllerError(RuntimeError("a worker is gone"))
SMALLER = ResizeDecision(num_workers=1, resources_per_worker={"CPU": 1})
LACK = "room for 2 cpu workers: all nodes together have 2 CPUs, 1 free"


class Hours:
    """Time that goes by only while somebody sleeps; `meanwhile` is what others do then."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.meanwhile: Callable[[], None] = lambda: None

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.meanwhile()


class Asking:
    """Counts the checkpoints that workers were asked for, and knows whether they are to leave."""

    num_checkpoints, stop = 0, False

    def ask_for_checkpoint(self) -> None:
        self.num_checkpoints += 1

    def read(self) -> Asked:
        return Asked(self.stop, self.num_checkpoints)


class Watched:
    """A watch on a run in a cluster with too little room for its two workers."""

    def __init__(self, name: str) -> None:
        self.hours, self.asking, self.store = Hours(), Asking(), MemoryStore.named(name)
        self.run = Run(f"memory://{name}", "job_1", 1, "")
        self.watch = ControllerWatch(self.run, smoke_spec(), self.asking, clock=self.hours, sleep=self.hours.sleep)

    def sees(self, *states: TrainControllerState) -> None:
        for state in states:
            self.watch.after_controller_state_update(state, state)

    def told(self) -> Progress | None:
        """What it has said since this was last asked for."""
        key = self.run.keys.attempt(1).progress
        if key not in self.store.list(key):
            return None
        progress = Progress.model_validate_json(self.store.get(key))
        self.store.delete(key)
        return progress

    def says(self, progress: Progress) -> None:
        """What its workers have told last."""
        self.store.put(self.run.keys.attempt(1).progress, progress.model_dump_json().encode())

    def checkpoint(self, images_seen: int) -> None:
        self.store.put(f"{self.run.keys.checkpoint(images_seen, 1)}{MANIFEST}", b"")


@pytest.fixture
def free(monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    """What Ray says is free."""
    free = {"CPU": 1.0}
    monkeypatch.setattr(ray, "cluster_resources", lambda: {"CPU": 2.0})
    monkeypatch.setattr(ray, "available_resources", lambda: free)
    return free


@pytest.fixture
def watched(request: pytest.FixtureRequest, free: dict[str, float]) -> Watched:
    return Watched(request.node.name.replace("_", "-").translate(str.maketrans("[]", "--")))


@pytest.mark.parametrize("state", [InitializingState(), RestartingState(FAILED)])
def test_a_group_that_has_waited_for_half_a_minute_says_what_it_lacks_every_ten_seconds(
    watched: Watched, state: TrainControllerState
) -> None:
    said = []
    for _ in range(60):
        watched.sees(state)
        if told := watched.told():
            said.append((watched.hours.now - 1000.0, told.phase, told.waiting_for))
        watched.hours.sleep(0.5)

    assert said == [(31.5, "waiting", LACK), (41.5, "waiting", LACK), (51.5, "waiting", LACK)]


@pytest.mark.parametrize("state", [InitializingState(), RestartingState(FAILED), ReschedulingState(FAILED)])
def test_a_group_that_waits_leaves_when_asked(watched: Watched, state: TrainControllerState) -> None:
    watched.sees(state)
    watched.hours.sleep(1)
    watched.asking.stop = True

    with pytest.raises(LeftWaitingError):
        watched.sees(state)


def test_workers_that_are_about_to_restart_leave_on_their_own(watched: Watched) -> None:
    """They tell MLflow, too."""
    watched.asking.stop = True

    watched.watch.after_controller_state_update(RunningState(), RestartingState(FAILED))
    watched.sees(RunningState(), ResizingState(SMALLER))


def test_ray_train_that_looks_for_room_without_a_pause_is_given_one(watched: Watched) -> None:
    for _ in range(10):
        watched.sees(InitializingState())

    assert watched.hours.now == 1005


def test_workers_that_run_or_restart_wait_for_nothing(watched: Watched) -> None:
    watched.sees(RunningState(), RunningState())
    watched.watch.after_controller_state_update(RunningState(), RestartingState(FAILED))

    assert watched.hours.now == 1000


def test_a_group_that_trained_in_between_waits_anew(watched: Watched) -> None:
    watched.sees(InitializingState())
    watched.hours.sleep(20)
    watched.sees(RunningState(), RestartingState(FAILED))
    watched.hours.sleep(20)
    watched.sees(RestartingState(FAILED))

    assert watched.told() is None


def test_what_ray_has_tried_for_long_is_told_at_once_unless_there_is_room_by_now(
    watched: Watched, free: dict[str, float]
) -> None:
    watched.sees(ReschedulingState(FAILED))
    told = watched.told()
    free["CPU"] = 2.0
    watched.sees(ReschedulingState(FAILED))

    assert told
    assert (told.waiting_for, told.images_seen, told.total_images) == (LACK, 0, 320)
    assert watched.told() is None


def test_other_states_are_not_told_of(watched: Watched) -> None:
    for _ in range(3):
        watched.sees(RunningState(), FinishedState())
        watched.hours.sleep(60)

    assert (watched.told(), watched.asking.num_checkpoints) == (None, 0)


def test_workers_save_before_they_are_resized_and_are_waited_for(watched: Watched) -> None:
    def save() -> None:
        if watched.hours.now >= 1007:
            watched.checkpoint(320)

    watched.checkpoint(160)
    watched.hours.meanwhile = save

    watched.sees(ResizingState(SMALLER))

    assert (watched.asking.num_checkpoints, watched.hours.now) == (1, 1007)


def test_a_checkpoint_that_was_being_written_is_not_the_one_that_was_asked_for(watched: Watched) -> None:
    """Its state is of before, and all that was trained meanwhile would be lost."""

    def save() -> None:
        if watched.hours.now >= 1005:
            watched.checkpoint(160)
        if watched.hours.now >= 1080:
            watched.checkpoint(176)

    watched.says(first_word(320, 2, images_seen=160))
    watched.hours.meanwhile = save

    watched.sees(ResizingState(SMALLER))

    assert (watched.asking.num_checkpoints, watched.hours.now) == (1, 1080)


def test_workers_that_have_saved_their_last_state_are_not_waited_for(watched: Watched) -> None:
    watched.says(first_word(320, 2, images_seen=320))
    watched.checkpoint(320)

    watched.sees(ResizingState(SMALLER))

    assert watched.hours.now == 1000


def test_workers_that_cannot_save_are_waited_for_no_longer_than_five_minutes(watched: Watched) -> None:
    watched.checkpoint(160)

    watched.sees(ResizingState(SMALLER))

    assert (watched.asking.num_checkpoints, watched.hours.now) == (1, pytest.approx(1300, abs=1))


def test_a_store_that_is_away_ends_nothing(watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error here would end the attempt."""

    def away(*_: object) -> bytes:
        raise ConnectionError("the store is away")

    with monkeypatch.context() as broken:
        for name in ("get", "list", "put"):
            broken.setattr(watched.store, name, away)
        watched.sees(ReschedulingState(FAILED), ResizingState(SMALLER))

    watched.sees(ReschedulingState(FAILED))
    assert watched.told()


def test_a_call_to_ray_that_fails_ends_nothing(watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    def away() -> None:
        raise ActorUnavailableError("connection reset by peer", None)

    monkeypatch.setattr(watched.asking, "ask_for_checkpoint", away)
    monkeypatch.setattr(ray, "available_resources", away)

    watched.sees(ReschedulingState(FAILED), ResizingState(SMALLER))

    assert watched.told() is None


def test_the_last_word_of_workers_that_are_gone_is_kept_and_dated_anew() -> None:
    said = {"phase": "training", "images_seen": 500, "images_per_second": 10.0, "ledger": TimeBreakdown(useful=50.0)}
    last = first_word(1000, 2, **said, updated_at=datetime.now(UTC) - timedelta(seconds=70))

    first = waiting(last, "room for 2 gpu workers")
    second = waiting(first.model_copy(update={"ledger_at": datetime.now(UTC) - timedelta(seconds=60)}), "room for 2")

    assert (first.phase, first.images_seen, first.num_workers) == ("waiting", 500, 2)
    assert (first.images_per_second, first.eta_seconds) == (0.0, None)
    assert datetime.now(UTC) - first.updated_at < timedelta(seconds=10)
    assert second.waiting_for == "room for 2"
    assert (second.ledger.useful, second.ledger.restarting) == (50.0, pytest.approx(70, abs=5))
    assert second.ledger.waiting == pytest.approx(60, abs=5)
