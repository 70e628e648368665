"""Following a job to its end."""

import sys
import time
from collections.abc import Callable, Iterator
from typing import NoReturn, TypeVar

import typer

from service.cli import text
from service.cli.errors import CommandFailed
from service.cli.hints import command
from service.cli.output import say
from service.client import Client
from service.jobs.views import Job, JobState

EXIT_CODES = {JobState.SUCCEEDED: 0, JobState.FAILED: 4, JobState.CANCELLED: 3}

POLL_SECONDS = 0.5
_LINE_SECONDS = 10.0
_PATIENCE_SECONDS = 120.0

T = TypeVar("T")


def watch(jobs: Iterator[Job], *, as_json: bool) -> Job:
    """Show a job's way to its end: a bar on a terminal, lines elsewhere. Returns its last state."""
    if as_json:
        return _each(_changes(jobs), lambda job: print(job.model_dump_json(), flush=True))  # noqa: T201
    if not sys.stdout.isatty():
        return _each(_now_and_then(jobs), lambda job: print(text.line(job), flush=True))  # noqa: T201
    from service.cli.bar import live_bar  # rich takes a moment to import

    with live_bar() as show:
        return _each(jobs, show)


def to_the_end(client: Client, job_id: str, *, as_json: bool) -> NoReturn:
    """Watch a job and exit with the code of its end. Interrupted, it leaves the job alone and says so."""
    try:
        job = watch(client.jobs.follow(job_id, poll_seconds=POLL_SECONDS), as_json=as_json)
    except KeyboardInterrupt:
        say_it_goes_on(job_id, as_json=as_json)
        raise typer.Exit(130) from None
    say(text.ending(job), as_json=as_json)
    raise typer.Exit(EXIT_CODES[job.state])


def until(look: Callable[[], T | None], *, what: str) -> T:
    """What is found once there is something; a service that works finds it within seconds."""
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while (found := look()) is None:
        if time.monotonic() > deadline:
            raise CommandFailed(f"{what} has not come within {_PATIENCE_SECONDS:.0f} s: see the service's log")
        time.sleep(POLL_SECONDS)
    return found


def say_it_goes_on(job_id: str, *, as_json: bool) -> None:
    say(
        f"\nthe job goes on: {command(f'watch {job_id}')} shows it again, {command(f'cancel {job_id}')} stops it",
        as_json=as_json,
    )


def _each(jobs: Iterator[Job], show: Callable[[Job], None]) -> Job:
    latest = next(jobs)
    show(latest)
    for latest in jobs:
        show(latest)
    return latest


def _changes(jobs: Iterator[Job]) -> Iterator[Job]:
    last = None
    for job in jobs:
        if job != last:
            last = job
            yield job


def _now_and_then(jobs: Iterator[Job]) -> Iterator[Job]:
    """Every new state and checkpoint, and otherwise at most one in ten seconds."""
    last, shown_at = None, 0.0
    for job in jobs:
        milestone = (job.state, job.attempt, text.checkpoint(job.progress))
        if milestone != last or time.monotonic() - shown_at >= _LINE_SECONDS:
            last, shown_at = milestone, time.monotonic()
            yield job
