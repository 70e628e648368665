"""`cdm images`."""

from pathlib import Path
from typing import Annotated

import typer

from service.cli.connection import find
from service.cli.errors import CommandFailed
from service.cli.options import AsJson, JobName, on_service
from service.cli.output import tell
from service.cli.text import first_checkpoint
from service.client import Client
from service.jobs.views import Job


@on_service
def images(
    client: Client,
    job: JobName,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE.png", help="Default: named after the job.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Fetch the newest images of a job."""
    found = find(client, job)
    path, images_seen = save_newest_grid(client, found, output)
    tell(
        {"job": found.id, "images_seen": images_seen, "path": str(path)},
        f"{path} (after {images_seen:,} images)",
        as_json=as_json,
    )


def save_newest_grid(client: Client, job: Job, output: Path | None) -> tuple[Path, int]:
    """Where it lies now, and how many images the network had seen when it drew it."""
    samples = client.jobs.samples(job.id)
    if not samples:
        first = first_checkpoint(job.spec.cadence)
        raise CommandFailed(f"{job.id} has drawn nothing yet: its first images come {first}")
    path = (output or Path(f"{job.id}-{samples[-1]}.png")).absolute()
    content = client.jobs.sample(job.id, images_seen=samples[-1])
    try:
        path.write_bytes(content)
    except OSError as error:
        raise CommandFailed(f"cannot write {path}: {error.strerror}") from None
    return path, samples[-1]
