"""Stories told by processes that are killed or frozen at many points, and finished by others."""

import shutil
import signal
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from queue import SimpleQueue

from tests.support.killable import Fate, Nursery
from tests.support.worlds import World, check, world

PLAIN = "launch"
WARMEST = "stop, preempted"  # the story that needs most


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
        assert runs, "no story passes such a point: nothing would be shown"

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
            assert fate.exit_code == 0, one.last_words()
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
        assert fate == Fate(signal=signal.SIGKILL), f"was not killed: {fate}\n{one.last_words()}"
        for point in points[1:]:
            one.live_later(doom=point)
        last = one.live_later()
        assert last.exit_code == 0, one.last_words()
        check(one)


def freeze(endurance: Endurance, name: str, point: int) -> None:
    """A replica is frozen at this point past its lease, and another one takes over; thawed, it acts in vain."""
    with endurance.doomed(name, point, signal.SIGSTOP) as (one, fate):
        assert fate.frozen_pid, f"was not frozen: {fate}\n{one.last_words()}"
        try:
            other = one.live_later()
            assert other.exit_code == 0, one.last_words()
            check(one)
            report, worked = one.report(), dict(one.drivers.worked)
        finally:
            thawed = one.nursery.thaw(fate)
        assert thawed.exit_code == 0, one.last_words()
        assert one.report() == report, "what it wrote late changed something"
        assert dict(one.drivers.worked) == worked, "what it submitted late ran"
        assert one.ray.living == set(), "what it submitted late was left running"


def _fork(points: list[str], others: list[str]) -> int:
    """How many points two stories have for certain in common."""
    same = next((number for number, pair in enumerate(zip(points, others, strict=False)) if pair[0] != pair[1]), 0)
    return max((number for number in range(same) if "cluster" in points[number]), default=0)
