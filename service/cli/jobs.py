"""`cdm jobs`, `show`, `watch`, `queue` and `usage`."""

from datetime import UTC, datetime, timedelta
from itertools import chain
from typing import Annotated

import typer

from service.cli import details, text, values, watching
from service.cli.connection import find, find_comparison
from service.cli.errors import CommandMisused
from service.cli.metrics import offered
from service.cli.options import AllProjects, AsJson, JobName, LabelList, on_service
from service.cli.output import first, remark, tell
from service.client import Client
from service.jobs.planning_views import MOST_QUEUED
from service.jobs.views import Job, JobState, Kind


@on_service
def watch(client: Client, job: JobName, as_json: AsJson = False) -> None:
    """Follow a job to its end.

    Shows images seen, speed, time left, losses and the last checkpoint.
    Exit code 0: succeeded, 3: cancelled, 4: failed. Ctrl-C leaves the job running.
    """
    watching.to_the_end(client, find(client, job).id, as_json=as_json)


@on_service
def jobs(
    client: Client,
    name: Annotated[str | None, typer.Option(help="Only those called so.")] = None,
    state: Annotated[JobState | None, typer.Option(help="Only those in this state.")] = None,
    kind: Annotated[Kind | None, typer.Option(help="Only those of this kind.")] = None,
    label: LabelList = [],
    mine: Annotated[bool, typer.Option("--mine", help="Only those submitted with this key or token.")] = False,
    archived: Annotated[bool, typer.Option("--archived", help="Those that were archived, instead.")] = False,
    all_projects: AllProjects = False,
    limit: Annotated[int, typer.Option(min=1, help="At most so many.")] = 50,
    metric: Annotated[
        list[str],
        typer.Option(
            metavar="KEY", help="Also show its latest value, for example loss/dsm; may be given several times."
        ),
    ] = [],
    as_json: AsJson = False,
) -> None:
    """List jobs, newest first.

    A sweep is read side by side: --label sweep=rate --metric loss/dsm --metric eval/KD-ENL0-1k. `cdm metrics JOB` says
    which metrics a job has.
    """
    if metric and all_projects:
        raise CommandMisused("--metric: metrics are of one project; leave out --all-projects, or say --project")
    listed = client.jobs.list(
        name=name,
        state=state,
        kind=kind,
        created_by="me" if mine else None,
        labels=values.labels(label),
        archived=archived or None,
        all_projects=all_projects or None,
        limit=limit + 1,
    )
    found, has_more = first(listed, limit)
    there = {job.id: _latest(client, job) for job in found if metric}
    latest = {job_id: {key: values[key] for key in metric if key in values} for job_id, values in there.items()}
    if found and (missing := [key for key in metric if not any(key in values for values in there.values())]):
        remark(f"none of these jobs has {', '.join(missing)}: {offered(missing, {*chain(*there.values())})}")
    documents = [job.model_dump(mode="json") | {"metrics": latest[job.id]} for job in found] if metric else found
    shown = text.jobs_table(found, metric, latest, all_projects=all_projects) if found else "no jobs"
    tell(documents, shown, as_json=as_json, has_more=has_more)


def _latest(client: Client, job: Job) -> dict[str, float | None]:
    """The last value of each curve that a job has; None: it was no finite number."""
    if job.spec.kind != "train" or not job.attempt:
        return {}
    return {series.key: series.latest.value for series in client.jobs.metrics(job.id) if series.latest}


@on_service
def show(client: Client, job: JobName, as_json: AsJson = False) -> None:
    """Show how a job stands, and why.

    With its attempts, and what it can be asked.
    """
    found = client.jobs.retrieve(find(client, job).id)  # a list does not say how long the queue is
    attempts = client.jobs.attempts(found.id) if found.attempt else ()
    comparison = find_comparison(client, found) if found.control_job_id else None
    document = found.model_dump(mode="json") | {
        "attempts": attempts,
        "comparison_job_id": comparison.id if comparison else None,
    }
    tell(document, details.job(found, attempts, comparison), as_json=as_json)


@on_service
def queue(client: Client, all_projects: AllProjects = False, as_json: AsJson = False) -> None:
    """List the jobs that wait, in their order, and why."""
    waiting = client.queue(all_projects=all_projects or None)
    tell(waiting, details.queue(waiting, all_projects=all_projects) if waiting else "no jobs wait", as_json=as_json)
    if len(waiting) == MOST_QUEUED:
        remark(f"these are the first {MOST_QUEUED:,}: there may be more")


@on_service
def usage(
    client: Client,
    days: Annotated[int, typer.Option(min=1, max=36_500, help="Look back so far.")] = 30,
    all_projects: AllProjects = False,
    as_json: AsJson = False,
) -> None:
    """Show who has had how many workers, and for how long.

    GPUs and CPU workers are counted each by themselves.
    """
    found = client.usage(since=datetime.now(UTC) - timedelta(days=days), all_projects=all_projects or None)
    nothing = f"no jobs ran in the last {days} days"
    tell(found, details.usage(found.data, all_projects=all_projects) if found.data else nothing, as_json=as_json)
