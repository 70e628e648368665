"""What a shell may offer for an argument. It is asked while someone types: no answer in time is no answer."""

from collections.abc import Callable
from contextlib import suppress
from threading import Thread

import typer

from service.cli.connection import connected
from service.client import Client
from workers.contract.presets import PRESETS

_REQUEST_SECONDS = 1.0
_PATIENCE_SECONDS = 1.5  # finding the address of a name knows no limit of its own
_OFFERED = 50

Offer = list[tuple[str, str]]


def job_ids(context: typer.Context) -> Offer:
    """The newest jobs, each with its state and name."""

    def jobs(client: Client) -> Offer:
        found = client.jobs.list(limit=_OFFERED)
        return [("latest", "your newest"), *((job.id, " ".join(filter(None, (job.state, job.name)))) for job in found)]

    return _of_service(context, jobs)


def digests(context: typer.Context) -> Offer:
    """The newest image sets, each with its name."""
    return _of_service(context, lambda it: [(one.digest, one.name or "") for one in it.datasets.list(limit=_OFFERED)])


def upload_ids(context: typer.Context) -> Offer:
    """The newest files that were sent, each with its name."""
    return _of_service(context, lambda it: [(one.id, one.name) for one in it.uploads.list(limit=_OFFERED)])


def presets() -> Offer:
    return [(name, f"{spec.duration_images:,} images") for name, spec in PRESETS.items()]


def in_time(find: Callable[[], Offer], *, patience_seconds: float) -> Offer:
    """What it finds, or nothing: if it fails, or is not done by then."""
    found: Offer = []

    def look() -> None:
        with suppress(Exception):  # whatever it is, it must not be written between what someone types
            found.extend(find())

    thread = Thread(target=look, daemon=True)
    thread.start()
    thread.join(patience_seconds)
    return list(found)


def _of_service(context: typer.Context, find: Callable[[Client], Offer]) -> Offer:
    """What is found with the service that the command so far names."""
    url, key, home, project = (context.params.get(name) for name in ("url", "key", "home", "project"))

    def ask() -> Offer:
        with connected(url, key, home, project=project, max_retries=0, timeout_seconds=_REQUEST_SECONDS) as client:
            return find(client)

    return in_time(ask, patience_seconds=_PATIENCE_SECONDS)
