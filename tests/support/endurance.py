"""A story told by a process that is killed or frozen, finished by another one, and what must be true in the end."""

import json
import shutil
import signal
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count, pairwise
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from service.jobs.lifecycle import JobState
from tests.support.drivers import Drivers
from tests.support.killable import Fate, Nursery, Run, clock_of
from tests.support.scripted_ray import ScriptedRay
from tests.support.scripted_ray_http import scripted_ray
from tests.support.stories import STORIES, End, Story
from workers.contract.keys import JobKeys
from workers.storage.local import LocalStore

PLAIN = "launch"
WARMEST = "stop, preempted"  # the story that needs most
_LEASE_SECONDS = 61.0  # a little longer than those of the jobs
# What may follow what; events that tell of something else repeat the state.
_MOVES: dict[str, set[str]] = {
    "queued": {"starting", "paused", "cancelled"},
    "starting": {"running", "recovering", "pausing", "cancelling", "succeeded", "failed"},
    "running": {"recovering", "pausing", "cancelling", "succeeded", "failed"},
    "recovering": {"running", "starting", "pausing", "cancelling", "succeeded", "failed"},
    "pausing": {"paused", "queued", "recovering", "cancelling", "succeeded", "failed"},
    "paused": {"queued", "cancelled"},
    "cancelling": {"cancelled", "succeeded", "failed"},
    "succeeded": set(),
    "failed": {"queued"},
    "cancelled": {"queued"},
}


@dataclass(frozen=True, slots=True)
class World:
    """What outlives the service: the engine with its drivers, the object store, the database."""

    name: str
    folder: Path
    database_url: str
    ray: ScriptedRay
    drivers: Drivers
    nursery: Nursery

    @property
    def story(self) -> Story:
        return STORIES[self.name]

    def live(self, *, doom: int = 0, by: int = signal.SIGKILL, fresh: bool = False, later: float = 0.0) -> Fate:
        """One process, that gets its signal at the point of this number or lives to the end of the story."""
        return self.nursery.run(self._run(doom=doom, by=by, fresh=fresh, later_seconds=later))

    def warm_up(self) -> None:
        fate = self.nursery.warm_up(self._run())
        assert fate.exit_code == 0

    def live_later(self, *, doom: int = 0) -> Fate:
        """Another process, when the leases of the one before are over."""
        return self.live(doom=doom, later=clock_of(self.folder) + _LEASE_SECONDS)

    def _run(self, **how: Any) -> Run:
        return Run(folder=self.folder, database_url=self.database_url, ray_url=self.ray.url, story=self.name, **how)

    def report(self) -> list[dict[str, Any]]:
        told: list[dict[str, Any]] = json.loads((self.folder / "report.json").read_text())
        return told

    def points(self) -> list[str]:
        passed: list[str] = json.loads((self.folder / "points.json").read_text())
        return passed

    def output(self) -> str:
        return (self.folder / "output.log").read_text()


@contextmanager
def world(name: str, folder: Path, *, database_url: str, nursery: Nursery) -> Iterator[World]:
    folder.mkdir(parents=True)
    with scripted_ray() as ray:
        drivers = Drivers(STORIES[name], ray, LocalStore(folder / "objects"))
        yield World(name, folder, database_url, ray, drivers, nursery)


def check(world: World) -> None:
    """No job lost, none run twice, none stuck, and every account of what happened agrees with the others."""
    report = world.report()
    assert len(report) == len(world.story.ends)
    for told, end in zip(report, world.story.ends, strict=True):
        _check_end(told["job"], end)
        _check_events(told["job"], told["events"])
        _check_attempts(told["job"], told["attempts"], told["events"], world)
    assert world.ray.living == set(), "the engine still runs something"
    assert world.drivers.side_by_side == [], "two attempts of one job at a time"
    assert world.ray.overlaps == [], "a submission was started while it lived"
    assert set(world.drivers.worked.values()) <= {1}, "a driver got a claim twice"
    repeated = [one for one, times in world.ray.starts.items() if times > 1]
    assert world.story.may_repeat or not repeated, "the engine was given an attempt twice"


def _check_end(job: dict[str, Any], end: End) -> None:
    found = {name: job[name] for name in ("state", "reason", "unclean")}
    assert found == {"state": end.state, "reason": end.reason, "unclean": end.unclean}, job["message"]
    assert job["attempt"] in end.attempts
    assert job["intent"] is None
    assert job["stop_by"] is None
    assert job["ended_at"]


def _check_events(job: dict[str, Any], events: list[dict[str, Any]]) -> None:
    assert [event["sequence"] for event in events] == list(range(1, len(events) + 1))
    assert job["event_sequence"] == len(events)
    states = [event["state"] for event in events]
    assert (events[0]["type"], states[0], states[-1]) == ("created", "queued", job["state"])
    for before, after in pairwise(states):
        assert after == before or after in _MOVES[before], f"from {before} to {after}"


def _check_attempts(
    job: dict[str, Any], attempts: list[dict[str, Any]], events: list[dict[str, Any]], world: World
) -> None:
    numbers = [attempt["number"] for attempt in attempts]
    begun = [event["attempt"] for event in events if event["type"] == "attempt_started"]
    assert begun == numbers == list(range(1, job["attempt"] + 1))
    for attempt in attempts:
        assert attempt["submission_id"] == f"{job['id']}-a{attempt['number']}"
        assert attempt["ended_at"]
        assert attempt["log_due_until"] is None
    if job["state"] == JobState.SUCCEEDED:
        assert world.drivers.worked[attempts[-1]["submission_id"]] == 1
    record = json.loads(LocalStore(world.folder / "objects").get(JobKeys(job["id"]).record))
    assert record["job"]["state"] == job["state"], "its copy in the object store is out of date"
    assert len(record["attempts"]) == len(attempts)


@dataclass(frozen=True, slots=True)
class Cradle:
    """Where processes live one at a time: a nursery that knows its database."""

    nursery: Nursery
    database_url: str


@dataclass(slots=True)
class Endurance:
    """Runs many worlds, as many at a time as there are cradles.

    `lived`: the points that each story passes when nothing kills it; they are the same on all kinds of databases.
    """

    kind: str
    folder: Path
    cradles: "SimpleQueue[Cradle]"
    size: int
    lived: dict[str, list[str]]
    _numbers: Iterator[int] = field(default_factory=count)

    @contextmanager
    def world(self, name: str) -> Iterator[World]:
        cradle = self.cradles.get()
        try:
            folder = self.folder / f"world{next(self._numbers)}"
            with world(name, folder, database_url=cradle.database_url, nursery=cradle.nursery) as one:
                yield one
            shutil.rmtree(folder)  # whoever fails may want to look into it
        finally:
            self.cradles.put(cradle)

    @contextmanager
    def doomed(self, name: str, point: int, by: signal.Signals) -> Iterator[tuple[World, Fate]]:
        """A world whose first process met its fate there. What runs side by side may pass fewer points this time."""
        for last in (False, False, True):
            with self.world(name) as one:
                fate = one.live(doom=point, by=by, fresh=True)
                if last or fate.exit_code != 0:
                    yield one, fate
                    return

    def every_point(self, names: Iterable[str]) -> list[tuple[str, int]]:
        """All points of these stories, by number."""
        self._live_through(names)
        return [(name, number) for name in names for number in range(1, len(self.lived[name]) + 1)]

    def distinct(self, names: Iterable[str]) -> list[tuple[str, int]]:
        """Those that leave the world in a state of its own.

        What comes before the last answer of the engine that a story has in common with the plain launch is the same
        there; and just before an effect all is as it was after the one before.
        """
        self._live_through([PLAIN, *names])
        begins = {name: 0 if name == PLAIN else _fork(self.lived[name], self.lived[PLAIN]) for name in names}
        found = self.every_point(names)
        return [(name, at) for name, at in found if at > begins[name] and self.lived[name][at - 1].startswith("after")]

    def in_transactions(self, names: Iterable[str]) -> list[tuple[str, int]]:
        """Those just before something is committed."""
        found = self.every_point(names)
        return [(name, at) for name, at in found if self.lived[name][at - 1].startswith("before the commit")]

    def each(self, runs: Sequence[tuple[str, int]], endure: Callable[["Endurance", str, int], None]) -> None:
        """Do it for each story and point, and tell of all that failed."""

        def tried(run: tuple[str, int]) -> str | None:
            try:
                endure(self, *run)
            except Exception as error:  # noqa: BLE001 (told below)
                return f"{run[0]!r} at point {run[1]} ({self.lived[run[0]][run[1] - 1]}):\n{error}"
            return None

        with ThreadPoolExecutor(self.size) as pool:
            failures = [failure for failure in pool.map(tried, runs) if failure]
        assert not failures, f"{len(failures)} of {len(runs)} runs failed\n\n" + "\n\n".join(failures[:5])

    def _live_through(self, names: Iterable[str]) -> None:
        with ThreadPoolExecutor(self.size) as pool:
            list(pool.map(self._live, [name for name in names if name not in self.lived]))

    def _live(self, name: str) -> None:
        """A whole story without a kill, which must end well, too."""
        with self.world(name) as one:
            fate = one.live(fresh=True)
            assert fate.exit_code == 0, _tail(one)
            check(one)
            self.lived[name] = one.points()


def endurance(
    kind: str,
    folder: Path,
    database_urls: Sequence[str],
    *,
    nurseries: Sequence[Nursery],
    lived: dict[str, list[str]],
) -> Endurance:
    """Databases are migrated already; each is used by one process at a time, or by two replicas."""
    cradles: SimpleQueue[Cradle] = SimpleQueue()
    for number, (one, url) in enumerate(zip(nurseries, database_urls, strict=True)):
        with world(WARMEST, folder / f"warm{number}", database_url=url, nursery=one) as warm:
            warm.warm_up()
        cradles.put(Cradle(one, url))
    return Endurance(kind, folder, cradles, len(database_urls), lived)


def kill(endurance: Endurance, name: str, *points: int) -> None:
    """A process is killed at the first of these points, the next one at the second, and the last one lives."""
    with endurance.doomed(name, points[0], signal.SIGKILL) as (one, fate):
        assert fate == Fate(signal=signal.SIGKILL), f"was not killed: {fate}\n{_tail(one)}"
        for point in points[1:]:
            one.live_later(doom=point)
        last = one.live_later()
        assert last.exit_code == 0, _tail(one)
        check(one)


def freeze(endurance: Endurance, name: str, point: int) -> None:
    """A replica is frozen at this point past its lease, and another one takes over; thawed, it acts in vain."""
    with endurance.doomed(name, point, signal.SIGSTOP) as (one, fate):
        assert fate.frozen_pid, f"was not frozen: {fate}\n{_tail(one)}"
        try:
            other = one.live_later()
            assert other.exit_code == 0, _tail(one)
            check(one)
            report, worked = one.report(), dict(one.drivers.worked)
        finally:
            thawed = one.nursery.thaw(fate)
        assert thawed.exit_code == 0, _tail(one)
        assert one.report() == report, "what it wrote late changed something"
        assert dict(one.drivers.worked) == worked, "what it submitted late ran"
        assert one.ray.living == set(), "what it submitted late was left running"


def _tail(world: World) -> str:
    return world.output()[-3000:]


def _fork(points: list[str], others: list[str]) -> int:
    """How many points two stories have for certain in common."""
    same = next((number for number, pair in enumerate(zip(points, others, strict=False)) if pair[0] != pair[1]), 0)
    return max((number for number in range(same) if "cluster" in points[number]), default=0)
