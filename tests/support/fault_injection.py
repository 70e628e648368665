"""Scenarios whose process is killed or frozen at one of many failpoints, and which others finish."""

import shutil
import signal
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from queue import SimpleQueue

from tests.support.fork_server import ForkServer, WaitStatus
from tests.support.scenario_environment import ScenarioEnvironment, check_invariants, scenario_environment

BASELINE = "launch"
WARM_UP = "stop, preempted"  # the scenario that needs most


@dataclass(frozen=True, slots=True)
class Slot:
    """Where processes run one at a time: a fork server and its database."""

    fork_server: ForkServer
    database_url: str


@dataclass(slots=True)
class FaultInjection:
    """Runs scenarios with faults, as many at a time as there are slots.

    `failpoints`: those that each scenario passes when nothing interrupts it, the same on all kinds of databases.
    """

    kind: str
    folder: Path
    slots: "SimpleQueue[Slot]"
    size: int
    failpoints: dict[str, list[str]]
    _numbers: Iterator[int] = field(default_factory=count)

    @contextmanager
    def environment(self, name: str) -> Iterator[ScenarioEnvironment]:
        slot = self.slots.get()
        try:
            folder = self.folder / f"run{next(self._numbers)}"
            with scenario_environment(
                name, folder, database_url=slot.database_url, fork_server=slot.fork_server
            ) as environment:
                yield environment
            shutil.rmtree(folder)  # after a failure it is kept, to look into
        finally:
            self.slots.put(slot)

    @contextmanager
    def interrupted(
        self, name: str, failpoint: int, send: signal.Signals
    ) -> Iterator[tuple[ScenarioEnvironment, WaitStatus]]:
        """An environment whose first process got its signal. What runs concurrently may pass fewer failpoints now."""
        for last in (False, False, True):
            with self.environment(name) as environment:
                status = environment.run_service(failpoint=failpoint, send=send, fresh=True)
                if last or status.exit_code != 0:
                    yield environment, status
                    return

    def all_failpoints(self, names: Iterable[str]) -> list[tuple[str, int]]:
        """Those of these scenarios, by number."""
        self._record_failpoints(names)
        return [(name, number) for name in names for number in range(1, len(self.failpoints[name]) + 1)]

    def distinct_failpoints(self, names: Iterable[str]) -> list[tuple[str, int]]:
        """Those that leave the environment in a state of its own.

        What comes before the last answer of the engine that a scenario has in common with the plain launch is the same
        there; and just before an effect all is as it was after the one before.
        """
        self._record_failpoints([BASELINE, *names])
        begins = {name: self._num_common_with_baseline(name) for name in names}
        found = self.all_failpoints(names)
        return [(name, at) for name, at in found if at > begins[name] and self.name_of(name, at).startswith("after")]

    def failpoints_in_transactions(self, names: Iterable[str]) -> list[tuple[str, int]]:
        """Those just before something is committed."""
        found = self.all_failpoints(names)
        return [(name, at) for name, at in found if self.name_of(name, at).startswith("before the commit")]

    def name_of(self, scenario: str, failpoint: int) -> str:
        return self.failpoints[scenario][failpoint - 1]

    def run_all(
        self, failpoints: Sequence[tuple[str, int]], inject: Callable[["FaultInjection", str, int], None]
    ) -> None:
        """Inject a fault at each failpoint, and report all runs that failed."""
        assert failpoints, "no scenario passes such a failpoint: nothing would be shown"

        def run(failpoint: tuple[str, int]) -> str | None:
            try:
                inject(self, *failpoint)
            except Exception as error:  # noqa: BLE001 (reported below)
                return f"{failpoint[0]!r} at failpoint {failpoint[1]} ({self.name_of(*failpoint)}):\n{error}"
            return None

        with ThreadPoolExecutor(self.size) as pool:
            failures = [failure for failure in pool.map(run, failpoints) if failure]
        assert not failures, f"{len(failures)} of {len(failpoints)} runs failed\n\n" + "\n\n".join(failures[:5])

    def _record_failpoints(self, names: Iterable[str]) -> None:
        with ThreadPoolExecutor(self.size) as pool:
            list(pool.map(self._record, [name for name in names if name not in self.failpoints]))

    def _record(self, name: str) -> None:
        """A whole scenario without a fault, which must end well, too."""
        with self.environment(name) as environment:
            status = environment.run_service(fresh=True)
            assert status.exit_code == 0, environment.log_tail()
            check_invariants(environment)
            self.failpoints[name] = environment.failpoints()

    def _num_common_with_baseline(self, name: str) -> int:
        """How many failpoints the scenario has for certain in common with the plain launch."""
        if name == BASELINE:
            return 0
        points = self.failpoints[name]
        pairs = enumerate(zip(points, self.failpoints[BASELINE], strict=False))
        same = next((number for number, (one, other) in pairs if one != other), 0)
        return max((number for number in range(same) if "cluster" in points[number]), default=0)


def fault_injection(
    kind: str,
    folder: Path,
    database_urls: Sequence[str],
    *,
    fork_servers: Sequence[ForkServer],
    failpoints: dict[str, list[str]],
) -> FaultInjection:
    """Databases are migrated already; each is used by one process at a time, or by two replicas."""
    slots: SimpleQueue[Slot] = SimpleQueue()
    for number, (fork_server, url) in enumerate(zip(fork_servers, database_urls, strict=True)):
        with scenario_environment(
            WARM_UP, folder / f"warm{number}", database_url=url, fork_server=fork_server
        ) as environment:
            environment.warm_up()
        slots.put(Slot(fork_server, url))
    return FaultInjection(kind, folder, slots, len(database_urls), failpoints)


def kill(injection: FaultInjection, name: str, *failpoints: int) -> None:
    """A process is killed at the first of these failpoints, the next one at the second, and the last one finishes."""
    with injection.interrupted(name, failpoints[0], signal.SIGKILL) as (environment, status):
        assert status == WaitStatus(signal=signal.SIGKILL), f"was not killed: {status}\n{environment.log_tail()}"
        for failpoint in failpoints[1:]:
            environment.run_successor(failpoint=failpoint)
        last = environment.run_successor()
        assert last.exit_code == 0, environment.log_tail()
        check_invariants(environment)


def freeze(injection: FaultInjection, name: str, failpoint: int) -> None:
    """A replica is frozen at this failpoint past its lease, and another one takes over; thawed, it acts in vain."""
    with injection.interrupted(name, failpoint, signal.SIGSTOP) as (environment, status):
        assert status.stopped_pid, f"was not frozen: {status}\n{environment.log_tail()}"
        try:
            other = environment.run_successor()
            assert other.exit_code == 0, environment.log_tail()
            check_invariants(environment)
            report, claims = environment.report(), dict(environment.drivers.claims)
        finally:
            thawed = environment.fork_server.thaw(status)
        assert thawed.exit_code == 0, environment.log_tail()
        assert environment.report() == report, "what it wrote late changed something"
        assert dict(environment.drivers.claims) == claims, "what it submitted late ran"
        assert environment.ray.running == set(), "what it submitted late was left running"
