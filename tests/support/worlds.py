"""One world: a story, what outlives the service that tells it, and what must be true of both in the end."""

import json
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from service.jobs.lifecycle import JobState
from tests.support.drivers import Drivers
from tests.support.killable import Fate, Nursery, Run
from tests.support.scripted_ray import ScriptedRay
from tests.support.scripted_ray_http import scripted_ray
from tests.support.stories import STORIES, End, Story
from tests.support.telling import clock_of
from workers.contract.keys import JobKeys
from workers.storage.local import LocalStore

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

    def last_words(self) -> str:
        """The end of what the processes logged."""
        return (self.folder / "output.log").read_text()[-3000:]


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
