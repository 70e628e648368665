"""The environment of a scenario, which outlives the service, and the invariants that must hold in the end."""

import json
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from service.jobs.lifecycle import JobState
from tests.support.fork_server import ForkServer, Run, WaitStatus
from tests.support.scenario_runner import elapsed_seconds
from tests.support.scenarios import SCENARIOS, ExpectedEnd, Scenario
from tests.support.scripted_drivers import ScriptedDrivers
from tests.support.scripted_ray import ScriptedRay
from tests.support.scripted_ray_http import scripted_ray
from workers.contract.keys import JobKeys
from workers.storage.local import LocalStore

_LEASE_SECONDS = 61.0  # a little longer than those of the jobs
# Events about something else repeat the state.
_TRANSITIONS: dict[str, set[str]] = {
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
class ScenarioEnvironment:
    """What outlives the service: the engine with its drivers, the object store, the database."""

    name: str
    folder: Path
    database_url: str
    ray: ScriptedRay
    drivers: ScriptedDrivers
    fork_server: ForkServer

    @property
    def scenario(self) -> Scenario:
        return SCENARIOS[self.name]

    def run_service(
        self, *, failpoint: int = 0, send: int = signal.SIGKILL, fresh: bool = False, later_seconds: float = 0.0
    ) -> WaitStatus:
        """One process, which gets its signal at the failpoint of this number or runs to the end of the scenario."""
        run = self._run(failpoint=failpoint, send=send, fresh=fresh, later_seconds=later_seconds)
        return self.fork_server.run(run)

    def warm_up(self) -> None:
        status = self.fork_server.warm_up(self._run())
        assert status.exit_code == 0

    def run_successor(self, *, failpoint: int = 0) -> WaitStatus:
        """Another process, when the leases of the one before are over."""
        return self.run_service(failpoint=failpoint, later_seconds=elapsed_seconds(self.folder) + _LEASE_SECONDS)

    def _run(self, **options: Any) -> Run:
        return Run(
            folder=self.folder, database_url=self.database_url, ray_url=self.ray.url, scenario=self.name, **options
        )

    def report(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads((self.folder / "report.json").read_text())
        return found

    def failpoints(self) -> list[str]:
        passed: list[str] = json.loads((self.folder / "failpoints.json").read_text())
        return passed

    def log_tail(self) -> str:
        """The end of what the processes logged."""
        return (self.folder / "output.log").read_text()[-3000:]


@contextmanager
def scenario_environment(
    name: str, folder: Path, *, database_url: str, fork_server: ForkServer
) -> Iterator[ScenarioEnvironment]:
    folder.mkdir(parents=True)
    with scripted_ray() as ray:
        drivers = ScriptedDrivers(SCENARIOS[name], ray, LocalStore(folder / "objects"))
        yield ScenarioEnvironment(name, folder, database_url, ray, drivers, fork_server)


def check_invariants(environment: ScenarioEnvironment) -> None:
    """No job lost, none run twice, none stuck, and every account of what happened agrees with the others."""
    report = environment.report()
    assert len(report) == len(environment.scenario.ends)
    for found, end in zip(report, environment.scenario.ends, strict=True):
        _check_end(found["job"], end)
        _check_events(found["job"], found["events"])
        _check_attempts(found["job"], found["attempts"], found["events"], environment)
    assert environment.ray.running == set(), "the engine still runs something"
    assert environment.drivers.overlapping_attempts == [], "two attempts of one job at a time"
    assert environment.ray.overlaps == [], "a submission was started while it lived"
    assert set(environment.drivers.claims.values()) <= {1}, "a driver got a claim twice"
    repeated = [one for one, times in environment.ray.starts.items() if times > 1]
    assert environment.scenario.may_repeat or not repeated, "the engine was given an attempt twice"


def _check_end(job: dict[str, Any], end: ExpectedEnd) -> None:
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
        assert after == before or after in _TRANSITIONS[before], f"from {before} to {after}"


def _check_attempts(
    job: dict[str, Any], attempts: list[dict[str, Any]], events: list[dict[str, Any]], environment: ScenarioEnvironment
) -> None:
    numbers = [attempt["number"] for attempt in attempts]
    begun = [event["attempt"] for event in events if event["type"] == "attempt_started"]
    assert begun == numbers == list(range(1, job["attempt"] + 1))
    for attempt in attempts:
        assert attempt["submission_id"] == f"{job['id']}-a{attempt['number']}"
        assert attempt["ended_at"]
        assert attempt["log_due_until"] is None
    if job["state"] == JobState.SUCCEEDED:
        assert environment.drivers.claims[attempts[-1]["submission_id"]] == 1
    record = json.loads(LocalStore(environment.folder / "objects").get(JobKeys(job["id"]).record))
    assert record["job"]["state"] == job["state"], "its copy in the object store is out of date"
    assert len(record["attempts"]) == len(attempts)
