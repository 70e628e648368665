"""`cdm update` and `cdm label`: what can be changed of a job in every state."""

from collections.abc import Sequence
from typing import Annotated

import typer

from service.cli import text, values
from service.cli.connection import find
from service.cli.errors import CommandFailed, CommandMisused
from service.cli.options import AsJson, JobName, Urgency, on_service
from service.cli.output import tell
from service.client import Client, PreconditionFailed
from service.client.jobs import JobChanges
from service.jobs.views import Job, Priority

_TRIES = 5
_NO_LIMIT = "none"


@on_service
def update(
    client: Client,
    job: JobName,
    name: Annotated[str | None, typer.Option(help="For people; '' takes it away.")] = None,
    label: Annotated[
        list[str],
        typer.Option(metavar="KEY=VALUE|KEY-", help="Set one, or take it away; may be given several times."),
    ] = [],
    priority: Urgency = None,
    max_runtime: Annotated[
        str | None,
        typer.Option(metavar="2h30m", help=f"It is ended so long after it left the queue; '{_NO_LIMIT}': never."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Change name, labels, priority or time limit of a job.

    It may wait, run, or have ended. Its document stays as it is: `cdm fork` and `cdm submit --like` make another job of
    it.
    """
    changes = _changes(name, priority, max_runtime)
    if not changes and not label:
        raise CommandMisused("nothing is to be changed: give --name, --label, --priority or --max-runtime")
    after = _updated(client, find(client, job).id, changes, label)
    tell(after, f"{after.id} now has {_in_words(after)}", as_json=as_json)


@on_service
def label(
    client: Client,
    job: JobName,
    changes: Annotated[list[str], typer.Argument(metavar="KEY=VALUE|KEY-...", help="KEY- takes a label away.")],
    as_json: AsJson = False,
) -> None:
    """Set labels of a job, or take them away.

    Other labels stay, also those that somebody else sets at the same time.
    """
    after = _updated(client, find(client, job).id, {}, changes)
    tell(after, f"{after.id}: {text.labels(after) or 'no labels'}", as_json=as_json)


def _changes(name: str | None, priority: Priority | None, max_runtime: str | None) -> JobChanges:
    changes = JobChanges()
    if name is not None:
        changes["name"] = name or None
    if priority:
        changes["priority"] = priority
    if max_runtime is not None:
        changes["max_runtime_seconds"] = None if max_runtime == _NO_LIMIT else values.seconds(max_runtime)
    return changes


def _updated(client: Client, job_id: str, changes: JobChanges, labels: Sequence[str]) -> Job:
    """All at once. PATCH replaces all labels: those that somebody else sets meanwhile are read again, and kept."""
    if not labels:
        return client.jobs.update(job_id, **changes)
    for _ in range(_TRIES):
        before, etag = client.jobs.retrieve_with_etag(job_id)
        changes["labels"] = values.changed_labels(before.labels, labels)
        try:
            return client.jobs.update(job_id, if_match=etag, **changes)
        except PreconditionFailed:
            continue
    raise CommandFailed(f"{job_id} changes all the time: try again")


def _in_words(job: Job) -> str:
    limit = text.duration(job.max_runtime_seconds) if job.max_runtime_seconds else "none"
    return (
        f"name {job.name or 'none'}, labels {text.labels(job) or 'none'}, priority {job.priority}, time limit {limit}"
    )
