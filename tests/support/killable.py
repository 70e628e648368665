"""A control plane that lives through a story in a process of its own, so that it can be killed at any point of it.

`python -m tests.support.killable` imports everything once and then forks a process for each run, before an event loop,
a thread or a connection is there. What a run has to tell lies in its folder: a journal that outlives a SIGKILL, and a
report of how all ended.
"""

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

from sqlalchemy import URL, Engine
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from service import parts as service_parts
from service import storage
from service.cluster.ray import RayCluster
from service.database import Database, engine, open_database, postgres
from service.database.inline import open_sqlite
from service.jobs.store import JobStore
from service.parts import Parts, open_parts
from service.settings import Settings
from service.web.logs import configure_logging
from tests.support.clock import ManualClock
from tests.support.doom import Doom, doomed_cluster, doomed_database, doomed_objects
from tests.support.fake_mlflow import FakeMlflow
from tests.support.fresh_databases import emptied
from tests.support.plane import settings_in
from tests.support.stories import STORIES
from tests.support.telling import Journal, Teller, report
from workers.storage import open_store

_DEADLINE_SECONDS = 60
_IDLE_SECONDS = 2.0  # after which Postgres takes the locks of a process that is frozen


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One process. `doom`: the number of the point at which it gets the signal `by`; 0 = it lives through."""

    folder: Path
    database_url: str
    ray_url: str
    story: str
    doom: int = 0
    by: int = signal.SIGKILL
    fresh: bool = False  # the database is emptied first
    later_seconds: float = 0.0  # its clock is ahead of the first one by so much


@dataclass(frozen=True, slots=True)
class Fate:
    """How a process ended: by exiting, or by a signal; a frozen one has not ended."""

    exit_code: int | None = None
    signal: int | None = None
    frozen_pid: int | None = None


class Nursery:
    """Where processes are forked, one at a time; frozen ones wait beside."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process

    def run(self, run: Run) -> Fate:
        return self._ask({"run": {**asdict(run), "folder": str(run.folder)}})

    def warm_up(self, run: Run) -> Fate:
        """Tell a story in the nursery itself, so that processes inherit what was worked out for that database."""
        return self._ask({"warm": {**asdict(run), "folder": str(run.folder)}})

    def thaw(self, fate: Fate) -> Fate:
        """Let a frozen one go on to its end."""
        return self._ask({"thaw": fate.frozen_pid})

    def _ask(self, request: dict[str, Any]) -> Fate:
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        assert answer, f"the nursery died of {request}; its last words are on standard error"
        return Fate(**json.loads(answer))


@contextmanager
def nursery() -> Iterator[Nursery]:
    command = [sys.executable, "-m", "tests.support.killable"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield Nursery(process)
        assert process.stdin
        process.stdin.close()


def main() -> None:
    """The nursery itself. Its answers go out by a door of their own, since what is told is also logged."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    for line in sys.stdin:
        request = json.loads(line)
        match request:
            case {"thaw": pid}:
                os.kill(pid, signal.SIGCONT)
                fate = _awaited(pid)
            case {"warm": run}:
                asyncio.run(_tell(_read(run)))
                _end_threads()  # a process that is forked would wait for them, and has none
                fate = Fate(exit_code=0)
            case {"run": run}:
                fate = _awaited(os.fork() or _live(_read(run)))
            case _:
                raise LookupError(line)
        answers.write(json.dumps(asdict(fate)) + "\n")
        answers.flush()


def _end_threads() -> None:
    """Those that call the object store, which outlive their event loop; others begin where they are needed."""
    storage._threads.shutdown()
    storage._threads = ThreadPoolExecutor(storage._threads._max_workers)


def _read(run: dict[str, Any]) -> Run:
    return Run(**{**run, "folder": Path(run["folder"])})


def _awaited(pid: int) -> Fate:
    _, status = os.waitpid(pid, os.WUNTRACED)
    if os.WIFSTOPPED(status):
        return Fate(frozen_pid=pid)
    return Fate(signal=os.WTERMSIG(status)) if os.WIFSIGNALED(status) else Fate(exit_code=os.WEXITSTATUS(status))


def _live(run: Run) -> int:
    """All that the forked process does."""
    code = 1
    try:
        signal.alarm(_DEADLINE_SECONDS)
        output = os.open(run.folder / "output.log", os.O_CREAT | os.O_APPEND | os.O_WRONLY)
        for stream in (1, 2):
            os.dup2(output, stream)
        asyncio.run(_tell(run))
        code = 0
    except BaseException:
        sys.excepthook(*sys.exc_info())
        raise
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


async def _tell(run: Run) -> None:
    story, doom = STORIES[run.story], Doom(at=run.doom, by=signal.Signals(run.by))
    clock, ray = ManualClock(), RayCluster(run.ray_url, timeout_seconds=story.patience_seconds)
    clock.advance(run.later_seconds)
    settings = settings_in(
        run.folder, database_url=run.database_url, store_url=f"file://{run.folder}/objects", **story.settings
    )
    async with _open(settings, doom, clock, ray) as parts:
        store = JobStore(parts.database)
        if run.fresh:
            await emptied(parts.database)
        doom.begin()
        try:
            await Teller(story, parts, ray, store, Journal(run.folder / "journal")).tell()
        finally:
            (run.folder / "points.json").write_text(json.dumps(doom.passed))
        told = await report(store, len(story.ends))
        (run.folder / "report.json").write_text(json.dumps(told, default=str))


def _open(settings: Settings, doom: Doom, clock: ManualClock, ray: RayCluster) -> AbstractAsyncContextManager[Parts]:
    """The parts as the application opens them, with points in what they work on."""

    @asynccontextmanager
    async def open_with_points(url: str) -> AsyncIterator[Database]:
        async with open_database(url, idle_seconds=_IDLE_SECONDS) as database:
            yield doomed_database(database, doom)

    service_parts.open_database = open_with_points  # type: ignore[assignment, attr-defined]
    return open_parts(
        settings,
        clock=clock,
        cluster=doomed_cluster(ray, doom),
        object_store=doomed_objects(open_store(settings.store_url), doom),
        mlflow=FakeMlflow({"run1": "RUNNING"}).client(),
    )


@contextmanager
def _kept_engines() -> Iterator[None]:
    """Closed before each fork, one keeps how statements are written in SQL, which is half of a short life's work."""
    create, kept = create_async_engine, dict[tuple[str, str], AsyncEngine]()
    open_file, files = open_sqlite, dict[URL, Engine]()

    def once(url: str, **options: Any) -> AsyncEngine:
        key = (url, repr(options))
        return kept.get(key) or kept.setdefault(key, create(url, **options))

    def file_once(url: URL) -> Engine:
        return files.get(url) or files.setdefault(url, open_file(url))

    with patch.object(postgres, "create_async_engine", once), patch.object(engine, "open_sqlite", file_once):
        yield


if __name__ == "__main__":
    configure_logging()
    with _kept_engines():
        main()
