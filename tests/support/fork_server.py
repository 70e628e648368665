"""A control plane that runs a scenario in a process of its own, so that it can be killed at any failpoint.

`python -m tests.support.fork_server` imports everything once and then forks a process for each run, before an event
loop, a thread or a connection is there. A run leaves its output in its folder: a journal that outlives a SIGKILL, and
a report of how all ended.
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
from tests.support.failpoints import Failpoints, instrumented_cluster, instrumented_database, instrumented_objects
from tests.support.fake_mlflow import FakeMlflow
from tests.support.fresh_databases import emptied
from tests.support.plane import settings_in
from tests.support.scenario_runner import Journal, ScenarioRunner, report
from tests.support.scenarios import SCENARIOS
from workers.storage import open_store

_DEADLINE_SECONDS = 60
_IDLE_SECONDS = 2.0  # after which Postgres takes the locks of a process that is frozen


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One process. It gets the signal `send` at the failpoint of this number; at 0 it runs to the end."""

    folder: Path
    database_url: str
    ray_url: str
    scenario: str
    failpoint: int = 0
    send: int = signal.SIGKILL
    fresh: bool = False  # the database is emptied first
    later_seconds: float = 0.0  # its clock is ahead of the first one by so much


@dataclass(frozen=True, slots=True)
class WaitStatus:
    """What `waitpid` says of a process: it exited, or a signal ended it, or it is stopped."""

    exit_code: int | None = None
    signal: int | None = None
    stopped_pid: int | None = None


class ForkServer:
    """Forks processes, one at a time; frozen ones wait beside."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process

    def run(self, run: Run) -> WaitStatus:
        return self._ask({"run": {**asdict(run), "folder": str(run.folder)}})

    def warm_up(self, run: Run) -> WaitStatus:
        """Run a scenario in the fork server itself, so that processes inherit what was worked out for that database."""
        return self._ask({"warm": {**asdict(run), "folder": str(run.folder)}})

    def thaw(self, status: WaitStatus) -> WaitStatus:
        """Let a frozen one go on to its end."""
        return self._ask({"thaw": status.stopped_pid})

    def _ask(self, request: dict[str, Any]) -> WaitStatus:
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        assert answer, f"the fork server died of {request}; see its standard error"
        return WaitStatus(**json.loads(answer))


@contextmanager
def fork_server() -> Iterator[ForkServer]:
    command = [sys.executable, "-m", "tests.support.fork_server"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield ForkServer(process)
        assert process.stdin
        process.stdin.close()


def main() -> None:
    """The fork server itself. It answers on a copy of standard output, since a scenario also logs there."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    for line in sys.stdin:
        request = json.loads(line)
        match request:
            case {"thaw": pid}:
                os.kill(pid, signal.SIGCONT)
                status = _wait(pid)
            case {"warm": run}:
                asyncio.run(_run_scenario(_read(run)))
                _end_threads()  # a process that is forked would wait for them, and has none
                status = WaitStatus(exit_code=0)
            case {"run": run}:
                status = _wait(os.fork() or _run_child(_read(run)))
            case _:
                raise LookupError(line)
        answers.write(json.dumps(asdict(status)) + "\n")
        answers.flush()


def _end_threads() -> None:
    """Those that call the object store, which outlive their event loop; others begin where they are needed."""
    storage._threads.shutdown()
    storage._threads = ThreadPoolExecutor(storage._threads._max_workers)


def _read(run: dict[str, Any]) -> Run:
    return Run(**{**run, "folder": Path(run["folder"])})


def _wait(pid: int) -> WaitStatus:
    _, code = os.waitpid(pid, os.WUNTRACED)
    if os.WIFSTOPPED(code):
        return WaitStatus(stopped_pid=pid)
    return WaitStatus(signal=os.WTERMSIG(code)) if os.WIFSIGNALED(code) else WaitStatus(exit_code=os.WEXITSTATUS(code))


def _run_child(run: Run) -> int:
    """All that the forked process does."""
    code = 1
    try:
        signal.alarm(_DEADLINE_SECONDS)
        output = os.open(run.folder / "output.log", os.O_CREAT | os.O_APPEND | os.O_WRONLY)
        for stream in (1, 2):
            os.dup2(output, stream)
        asyncio.run(_run_scenario(run))
        code = 0
    except BaseException:
        sys.excepthook(*sys.exc_info())
        raise
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


async def _run_scenario(run: Run) -> None:
    scenario = SCENARIOS[run.scenario]
    failpoints = Failpoints(trigger_at=run.failpoint, send=signal.Signals(run.send))
    clock, ray = ManualClock(), RayCluster(run.ray_url, timeout_seconds=scenario.ray_timeout_seconds)
    clock.advance(run.later_seconds)
    settings = settings_in(
        run.folder, database_url=run.database_url, store_url=f"file://{run.folder}/objects", **scenario.settings
    )
    async with _open(settings, failpoints, clock, ray) as parts:
        store = JobStore(parts.database)
        if run.fresh:
            await emptied(parts.database)
        failpoints.enable()
        try:
            await ScenarioRunner(scenario, parts, ray, store, Journal(run.folder / "journal")).run()
        finally:
            (run.folder / "failpoints.json").write_text(json.dumps(failpoints.passed))
        found = await report(store, len(scenario.ends))
        (run.folder / "report.json").write_text(json.dumps(found, default=str))


def _open(
    settings: Settings, failpoints: Failpoints, clock: ManualClock, ray: RayCluster
) -> AbstractAsyncContextManager[Parts]:
    """The parts as the application opens them, with failpoints in what they work on."""

    @asynccontextmanager
    async def open_instrumented(url: str) -> AsyncIterator[Database]:
        async with open_database(url, idle_seconds=_IDLE_SECONDS) as database:
            yield instrumented_database(database, failpoints)

    # A forked process of its own, in which nothing is to be put back; the module does not export the name.
    service_parts.open_database = open_instrumented  # type: ignore[assignment, attr-defined]
    return open_parts(
        settings,
        clock=clock,
        cluster=instrumented_cluster(ray, failpoints),
        object_store=instrumented_objects(open_store(settings.store_url), failpoints),
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
