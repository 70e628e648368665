"""`cdm checkpoints`."""

from pathlib import Path
from typing import Annotated

import typer

from service.cli.connection import find_training
from service.cli.errors import CommandFailed
from service.cli.hints import command
from service.cli.options import AsJson, At, JobName, on_service
from service.cli.output import tell
from service.cli.text import first_checkpoint, local, table
from service.client import Client, NotFound
from service.jobs.result_views import Checkpoint


@on_service
def checkpoints(
    client: Client,
    job: JobName,
    at: At = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FOLDER", help="Fetch the files of one, the newest or that of --at."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List a training's checkpoints, or fetch one."""
    found, spec = find_training(client, job)
    if output or at is not None:
        _show_one(client, found.id, at, output, as_json=as_json)
        return
    there = client.jobs.checkpoints(found.id)
    if not there:
        raise CommandFailed(f"{found.id} has no checkpoint yet: its first comes {first_checkpoint(spec.cadence)}")
    words = f"{_listed(there)}\nfetch one with {command(f'checkpoints {found.id} --at IMAGES --output FOLDER')}"
    tell([each.model_dump(mode="json") for each in there], words, as_json=as_json)


def _show_one(client: Client, job_id: str, at: int | None, output: Path | None, *, as_json: bool) -> None:
    try:
        found = client.jobs.checkpoint(job_id, images_seen="latest" if at is None else at)
    except NotFound as error:
        raise CommandFailed(f"{error}: {command(f'checkpoints {job_id}')} lists those that are there") from None
    if output is None:
        rows = ((file.name, _mebibytes(file.num_bytes)) for file in found.files)
        tell(found, table([("FILE", "MIB"), *rows]), as_json=as_json)
        return
    from service.cli.bar import transfer_bar  # rich takes a moment to import

    with transfer_bar(f"fetching the checkpoint at {found.images_seen:,} images") as show:
        client.jobs.download_checkpoint(
            job_id, output, images_seen=found.images_seen, attempt=found.attempt, on_bytes=show
        )
    words = f"{output.absolute()} (after {found.images_seen:,} images)"
    tell(found.model_dump(mode="json") | {"path": str(output.absolute())}, words, as_json=as_json)


def _listed(there: tuple[Checkpoint, ...]) -> str:
    rows = ((f"{each.images_seen:,}", local(each.created_at), _mebibytes(each.num_bytes), each.uri) for each in there)
    return table([("IMAGES", "WRITTEN", "MIB", "WHERE"), *rows])


def _mebibytes(num_bytes: int) -> str:
    return f"{num_bytes / 2**20:,.1f}"
