"""What a job can be asked: `cdm cancel`, `pause`, `resume`, `retry`, `archive` and so on."""

import sys
from typing import Annotated

import typer

from service.cli import text, values
from service.cli.connection import find
from service.cli.errors import CommandFailed, CommandMisused
from service.cli.options import AsJson, JobName, on_service
from service.cli.output import tell
from service.client import Client
from service.jobs.views import Job, JobPart


@on_service
def cancel(
    client: Client,
    job: JobName,
    wait: Annotated[bool, typer.Option("--wait", help="Return when it has ended.")] = False,
    now: Annotated[bool, typer.Option("--now", help="Without waiting for a last checkpoint.")] = False,
    grace: Annotated[str | None, typer.Option(metavar="5m", help="Until force; default: the service's.")] = None,
    as_json: AsJson = False,
) -> None:
    """Stop a job after a last checkpoint."""
    grace_seconds = None if grace is None else values.seconds(grace)
    asked = client.jobs.cancel(find(client, job).id, mode="now" if now else "graceful", grace_seconds=grace_seconds)
    if wait:
        asked = client.jobs.wait(asked.id)
    _tell(asked, as_json=as_json)


@on_service
def pause(client: Client, job: JobName, as_json: AsJson = False) -> None:
    """Free a job's workers after a checkpoint.

    It waits, with all it has learnt, until `cdm resume`.
    """
    _tell(client.jobs.pause(find(client, job).id), as_json=as_json)


@on_service
def resume(client: Client, job: JobName, as_json: AsJson = False) -> None:
    """Queue a paused job again."""
    _tell(client.jobs.resume(find(client, job).id), as_json=as_json)


@on_service
def retry(client: Client, job: JobName, as_json: AsJson = False) -> None:
    """Queue a failed or cancelled job again.

    It goes on from its newest checkpoint.
    """
    _tell(client.jobs.retry(find(client, job).id), as_json=as_json)


@on_service
def archive(client: Client, job: JobName, as_json: AsJson = False) -> None:
    """Take a job that has ended out of the lists.

    Nothing is removed: `cdm jobs --archived` lists it, `cdm restore` puts it back.
    """
    _tell(client.jobs.archive(find(client, job).id), as_json=as_json, done="is archived")


@on_service
def restore(client: Client, job: JobName, as_json: AsJson = False) -> None:
    """Put an archived job back into the lists.

    `latest` is the newest of those that are archived.
    """
    _tell(client.jobs.restore(find(client, job, archived=True).id), as_json=as_json, done="is in the lists again")


@on_service
def replay(client: Client, job: JobName, as_json: AsJson = False) -> None:
    """Bring MLflow what it lacks of a job that has ended.

    All its curves are in the object store. If MLflow has lost the run, it gets a new one; `cdm show` says where.
    """
    _tell(client.jobs.replay(find(client, job).id), as_json=as_json, done="is told to MLflow again")


@on_service
def delete(
    client: Client,
    job: JobName,
    purge: Annotated[
        list[JobPart],
        typer.Option("--purge", help="Remove this from the object store, too; may be given several times."),
    ] = [],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    as_json: AsJson = False,
) -> None:
    """Remove a job that has ended, for ever.

    What it has left in the object store, checkpoints above all, stays there unless --purge names it; afterwards no
    command reaches that.
    """
    found = find(client, job)
    parts = [part.value for part in dict.fromkeys(purge)]
    what = f"{found.id}{f' ({found.name})' if found.name else ''}{', with its ' if parts else ''}{' and '.join(parts)}"
    kept = [part.value for part in JobPart if part.value not in parts]
    left = f"; what {', '.join(kept)} it has left stay in the object store" if kept else ""
    unless = f"{left} unless --purge names them" if kept else ""
    if not yes:
        if not sys.stdin.isatty():
            raise CommandMisused(f"deleting {what} cannot be undone{unless}: say so with --yes")
        if not typer.confirm(f"Delete {what}? This cannot be undone{unless}.", err=True):
            raise CommandFailed("nothing was deleted")
    client.jobs.delete(found.id, purge=parts)
    tell({"deleted": found.id, "purged": parts, "kept": kept}, f"deleted {what}{left}", as_json=as_json)


def _tell(job: Job, *, as_json: bool, done: str | None = None) -> None:
    tell(job, f"{job.id} {done or f'is {text.state(job)}'}", as_json=as_json)
