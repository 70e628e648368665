"""`cdm logs` and `cdm events`: what a job has written, and what has happened to it."""

import json
from collections.abc import Iterator
from typing import Annotated

import typer

from service.cli.connection import find
from service.cli.errors import CommandFailed
from service.cli.options import AsJson, JobName, on_service
from service.cli.output import remark, tell, tell_line
from service.cli.text import local, table, why
from service.client import Client
from service.jobs.result_views import MOST_TAIL_LINES, Event, Log
from service.jobs.views import Job
from workers.contract.keys import DRIVER_LOG, ENGINE_LOG


@on_service
def logs(
    client: Client,
    job: JobName,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the job has ended.")] = False,
    tail: Annotated[
        int | None, typer.Option(min=1, max=MOST_TAIL_LINES, help="Begin with the last so many lines.")
    ] = None,
    attempt: Annotated[int | None, typer.Option(min=1, help="Which attempt; default: the latest.")] = None,
    source: Annotated[
        str | None, typer.Option(metavar="SOURCE", help="Which process: driver (the default), rank-0000, engine.")
    ] = None,
    sources: Annotated[bool, typer.Option("--sources", help="List which there are, instead.")] = False,
    as_json: AsJson = False,
) -> None:
    """Print what a job has written.

    Where the driver has written nothing, what the engine kept of it is shown.
    """
    found = find(client, job)
    if sources:
        _list_sources(client, found, attempt, as_json=as_json)
        return
    if found.attempt == 0 and found.state.is_terminal:
        raise CommandFailed(f"{found.id} is {found.state}, was never begun, and so has no log")
    if found.attempt == 0 and not follow:
        raise CommandFailed(f"{found.id} is {found.state} and has no log yet: wait for it with --follow")
    silent = True
    for piece in log_pieces(client, found, attempt=attempt, source=source, follow=follow, tail=tail):
        document = {"attempt": piece.attempt, "source": piece.source, "text": piece.text}
        print(json.dumps(document) + "\n" if as_json else piece.text, end="", flush=True)  # noqa: T201
        silent = False
    if silent:
        _explain_silence(client, found, attempt, source)


@on_service
def events(
    client: Client,
    job: JobName,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the job has ended.")] = False,
    after: Annotated[int, typer.Option(min=0, metavar="NUMBER", help="Only those behind this one.")] = 0,
    as_json: AsJson = False,
) -> None:
    """List what has happened to a job, and who asked for it."""
    job_id = find(client, job).id
    found = client.jobs.stream_events(job_id, after=after) if follow else client.jobs.events(job_id, after=after)
    for event in found:
        tell_line(event.model_dump(mode="json"), _event_line(event), as_json=as_json)


def _event_line(event: Event) -> str:
    reason = why(event.reason, event.message)
    parts = (
        *(str(event.sequence).rjust(4), local(event.created_at), event.type, event.state),
        f"attempt {event.attempt}" if event.attempt else "",
        f"by {event.actor}" if event.actor else "",
        f"({reason})" if reason else "",
    )
    return "  ".join(filter(None, parts))


def _explain_silence(client: Client, job: Job, attempt: int | None, source: str | None) -> None:
    there = [one.source for one in client.jobs.log_sources(job.id, attempt=attempt)]
    if source is not None and source not in there:
        raise CommandFailed(f"{job.id} has no log of {source}: it has {', '.join(there) or 'none so far'}")
    remark("nothing was written so far")


def log_pieces(
    client: Client,
    job: Job,
    *,
    attempt: int | None = None,
    source: str | None = None,
    follow: bool = False,
    tail: int | None = None,
) -> Iterator[Log]:
    """The log of one attempt; when following without naming one, of all attempts from the latest on.

    Without a `source` it is the driver's, or the engine's if that is empty. With `tail` it begins so many lines before
    its end.
    """
    silent = True
    for piece in _pieces(client, job.id, attempt, source or DRIVER_LOG, follow=follow, tail=tail):
        silent = False
        yield piece
    if silent and source is None:
        yield from _pieces(client, job.id, attempt, ENGINE_LOG, follow=False, tail=tail)


def _pieces(
    client: Client, job_id: str, attempt: int | None, source: str, *, follow: bool, tail: int | None
) -> Iterator[Log]:
    last = None if tail is None else client.jobs.logs(job_id, attempt=attempt, source=source, tail=tail)
    if last and last.text:
        yield last
    if follow:
        yield from client.jobs.stream_logs(job_id, attempt=attempt, source=source, behind=last)
    elif last is None:
        yield from _written(client, job_id, attempt, source)


def _written(client: Client, job_id: str, attempt: int | None, source: str) -> Iterator[Log]:
    offset = 0
    while (piece := client.jobs.logs(job_id, attempt=attempt, source=source, offset=offset)).text:
        yield piece
        attempt, offset = piece.attempt, piece.next_offset


def _list_sources(client: Client, job: Job, attempt: int | None, *, as_json: bool) -> None:
    found = client.jobs.log_sources(job.id, attempt=attempt)
    rows = [("SOURCE", "BYTES"), *((one.source, f"{one.num_bytes:,}") for one in found)]
    tell(found, table(rows) if found else f"{job.id} has no logs yet", as_json=as_json)
