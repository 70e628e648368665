"""`cdm logs` and `cdm images`."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from service.cli.connection import AsJson, Home, JobName, Key, Url, connected, find
from service.cli.errors import CommandFailed
from service.cli.output import tell
from service.client import Client
from service.jobs.views import Job, Log

_POLL_SECONDS = 1.0
_LAST_WORDS_SECONDS = 10.0  # the log of a job that has ended is complete when it has been copied to the object store


def logs(
    job: JobName,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the job has ended.")] = False,
    attempt: Annotated[int | None, typer.Option(min=1, help="Which attempt; default: the latest.")] = None,
    url: Url = None,
    key: Key = None,
    home: Home = None,
    as_json: AsJson = False,
) -> None:
    """Print what a job has written."""
    with connected(url, key, home) as client:
        found = find(client, job)
        if found.attempt == 0 and not follow:
            raise CommandFailed(f"{found.id} is {found.state} and has no log yet: wait for it with --follow")
        try:
            for piece in log_pieces(client, found, attempt=attempt, follow=follow):
                words = json.dumps({"attempt": piece.attempt, "text": piece.text}) + "\n" if as_json else piece.text
                print(words, end="", flush=True)  # noqa: T201
        except KeyboardInterrupt:
            raise typer.Exit(130) from None


def log_pieces(client: Client, job: Job, *, attempt: int | None = None, follow: bool = False) -> Iterator[Log]:
    """The log of one attempt; when following without naming one, of all attempts from the latest on."""
    number, offset, heard_at = attempt or job.attempt, 0, time.monotonic()
    while True:
        piece = client.jobs.logs(job.id, attempt=number, offset=offset) if number else None
        if piece and piece.text:
            yield piece
            offset, heard_at = piece.next_offset, time.monotonic()
            continue
        ended = piece is None or piece.complete
        silent = time.monotonic() - heard_at > _LAST_WORDS_SECONDS
        if not follow or (ended and attempt) or (job.state.is_terminal and (ended or silent)):
            return
        time.sleep(_POLL_SECONDS)
        job = client.jobs.retrieve(job.id)
        if ended and not attempt and job.attempt > number:
            number, offset = job.attempt, 0


def images(
    job: JobName,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE.png", help="Default: named after the job.")
    ] = None,
    url: Url = None,
    key: Key = None,
    home: Home = None,
    as_json: AsJson = False,
) -> None:
    """Fetch the newest images of a job."""
    with connected(url, key, home) as client:
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
        raise CommandFailed(
            f"{job.id} has drawn nothing yet: its first images come after {job.spec.cadence.checkpoint_images:,} images"
        )
    path = (output or Path(f"{job.id}-{samples[-1]}.png")).absolute()
    content = client.jobs.sample(job.id, images_seen=samples[-1])
    try:
        path.write_bytes(content)
    except OSError as error:
        raise CommandFailed(f"cannot write {path}: {error.strerror}") from None
    return path, samples[-1]
