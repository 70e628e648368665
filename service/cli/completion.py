"""What a shell may offer for an argument. It is asked while someone types: no answer in time is no answer."""

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from threading import Thread

import typer

from service.cli.connection import connected
from workers.contract.presets import PRESETS

_PATIENCE_SECONDS = 1.5  # of which finding the address of a name knows no limit of its own
_OFFERED = 50

Offer = list[tuple[str, str]]


def job_ids(context: typer.Context) -> Offer:
    """The newest jobs of the service that the command so far names, each with its state and name."""
    return in_time(lambda: _jobs(**{name: context.params.get(name) for name in ("url", "key", "home", "project")}))


def presets() -> Offer:
    return [(name, f"{spec.duration_images:,} images") for name, spec in PRESETS.items()]


def in_time(find: Callable[[], Offer], *, patience_seconds: float = _PATIENCE_SECONDS) -> Offer:
    """What it finds, or nothing: if it fails, or is not done by then."""
    found: Offer = []

    def look() -> None:
        with suppress(Exception):  # whatever it is, it must not be written between what someone types
            found.extend(find())

    thread = Thread(target=look, daemon=True)
    thread.start()
    thread.join(patience_seconds)
    return list(found)


def _jobs(*, url: str | None, key: str | None, home: Path | None, project: str | None) -> Offer:
    with connected(url, key, home, project=project, max_retries=0, timeout_seconds=1.0) as client:
        jobs = list(client.jobs.list(limit=_OFFERED))
    return [("latest", "the newest"), *((job.id, " ".join(filter(None, (job.state, job.name)))) for job in jobs)]
