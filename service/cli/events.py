"""`cdm events`."""

from typing import Annotated

import typer

from service.cli.connection import find
from service.cli.options import AsJson, JobName, on_service
from service.cli.output import tell_line
from service.cli.text import local, why
from service.client import Client
from service.jobs.result_views import Event


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
        tell_line(event.model_dump(mode="json"), _line(event), as_json=as_json)


def _line(event: Event) -> str:
    reason = why(event.reason, event.message)
    parts = (
        *(str(event.sequence).rjust(4), local(event.created_at), event.type, event.state),
        f"attempt {event.attempt}" if event.attempt else "",
        f"by {event.actor}" if event.actor else "",
        f"({reason})" if reason else "",
    )
    return "  ".join(filter(None, parts))
