"""`cdm jobs`, `show`, `watch` and `queue`."""

from typing import Annotated

import typer

from service.cli import details, text, values, watching
from service.cli.connection import find
from service.cli.options import AsJson, JobName, LabelList, on_service
from service.cli.output import tell
from service.client import Client
from service.jobs.views import JobState, Kind


@on_service
def watch(client: Client, job: JobName, as_json: AsJson = False) -> None:
    """Follow a job to its end.

    Shows images seen, speed, time left, losses and the last checkpoint.
    Exit code 0: succeeded, 1: failed, 3: cancelled. Ctrl-C leaves the job running.
    """
    watching.to_the_end(client, find(client, job).id, as_json=as_json)


@on_service
def jobs(
    client: Client,
    state: Annotated[JobState | None, typer.Option(help="Only those in this state.")] = None,
    kind: Annotated[Kind | None, typer.Option(help="Only those of this kind.")] = None,
    label: LabelList = [],  # noqa: B006 (Typer's way)
    archived: Annotated[bool, typer.Option("--archived", help="Those that were archived, instead.")] = False,
    limit: Annotated[int, typer.Option(min=1, help="At most so many.")] = 50,
    as_json: AsJson = False,
) -> None:
    """List jobs, newest first."""
    labels = values.labels(label)
    found = list(client.jobs.list(state=state, kind=kind, labels=labels, archived=archived or None, limit=limit))
    tell(found, text.jobs_table(found) if found else "no jobs", as_json=as_json)


@on_service
def show(client: Client, job: JobName, as_json: AsJson = False) -> None:
    """Show one job: how it stands and why, its attempts, and what it can be asked."""
    found = client.jobs.retrieve(find(client, job).id)  # a list does not say how long the queue is
    attempts = client.jobs.attempts(found.id) if found.attempt else ()
    document = found.model_dump(mode="json") | {"attempts": attempts}
    tell(document, details.job(found, attempts), as_json=as_json)


@on_service
def queue(client: Client, as_json: AsJson = False) -> None:
    """List the jobs that wait, in their order, and why."""
    waiting = client.queue()
    tell(waiting, details.queue(waiting) if waiting else "no jobs wait", as_json=as_json)
