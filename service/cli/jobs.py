"""`cdm watch`, `jobs`, `show` and `cancel`."""

import json
from typing import Annotated

import typer

from service.cli import text, watching
from service.cli.connection import AsJson, Home, JobName, Key, Url, connected, find
from service.cli.output import tell
from service.jobs.views import JobState


def watch(job: JobName, url: Url = None, key: Key = None, home: Home = None, as_json: AsJson = False) -> None:
    """Follow a job to its end.

    Shows images seen, speed, time left, losses and the last checkpoint.
    Exit code 0: succeeded, 1: failed, 3: cancelled. Ctrl-C leaves the job running.
    """
    with connected(url, key, home) as client:
        watching.to_the_end(client, find(client, job).id, as_json=as_json)


def jobs(
    state: Annotated[JobState | None, typer.Option(help="Only those in this state.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="At most so many.")] = 50,
    url: Url = None,
    key: Key = None,
    home: Home = None,
    as_json: AsJson = False,
) -> None:
    """List jobs, newest first."""
    with connected(url, key, home) as client:
        found = list(client.jobs.list(state=state, limit=limit))
    documents = [json.loads(job.model_dump_json()) for job in found]
    tell(documents, text.jobs_table(found) if found else "no jobs", as_json=as_json)


def show(job: JobName, url: Url = None, key: Key = None, home: Home = None, as_json: AsJson = False) -> None:
    """Show one job."""
    with connected(url, key, home) as client:
        found = find(client, job)
    tell(found, text.details(found), as_json=as_json)


def cancel(
    job: JobName,
    wait: Annotated[bool, typer.Option("--wait", help="Return when it has ended.")] = False,
    url: Url = None,
    key: Key = None,
    home: Home = None,
    as_json: AsJson = False,
) -> None:
    """Stop a job after a last checkpoint."""
    with connected(url, key, home) as client:
        asked = client.jobs.cancel(find(client, job).id)
        if wait:
            *_, asked = watching.follow(client, asked.id)
    tell(asked, f"{asked.id} is {text.state(asked)}", as_json=as_json)
