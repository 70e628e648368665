"""`cdm metrics`."""

from collections.abc import Iterable
from typing import Annotated

import typer

from service.cli.connection import find
from service.cli.errors import CommandFailed
from service.cli.options import AsJson, JobName, on_service
from service.cli.output import tell
from service.cli.text import number, table
from service.client import Client
from service.metrics.views import MetricPoint, MetricSeries
from workers.contract.spelling import closest


@on_service
def metrics(
    client: Client,
    job: JobName,
    keys: Annotated[list[str] | None, typer.Argument(metavar="KEY...", help="For example loss/dsm.")] = None,
    points: Annotated[int, typer.Option(min=3, max=5000, help="Of each curve.")] = 20,
    as_json: AsJson = False,
) -> None:
    """Print the latest values of a job, or the curves of some keys.

    Curves are down-sampled so that they look the same.
    """
    job_id = find(client, job).id
    found = client.jobs.metrics(job_id, keys or (), max_points=points)
    if missing := [series.key for series in found if keys and not series.points]:
        there = (series.key for series in client.jobs.metrics(job_id))
        raise CommandFailed(f"{job_id} has no {', '.join(missing)}: {offered(missing, there)}")
    words = "\n\n".join(map(_curve, found)) if keys else _latest(found)
    tell(found, words, as_json=as_json)


def offered(missing: Iterable[str], there: Iterable[str]) -> str:
    """What was meant instead of these keys in all likelihood, else all that there is."""
    keys = sorted(there)
    close = [meant for one in missing if (meant := closest(one, keys))]
    return f"did you mean {', '.join(close)}?" if close else f"there is {', '.join(keys) or 'nothing yet'}"


def _latest(found: tuple[MetricSeries, ...]) -> str:
    rows = ((series.key, *_cells(series.latest)) for series in found if series.latest)
    return table([("KEY", "IMAGES", "VALUE"), *rows]) if found else "nothing has been measured yet"


def _curve(series: MetricSeries) -> str:
    return table([("IMAGES", series.key), *map(_cells, series.points)])


def _cells(point: MetricPoint) -> tuple[str, str]:
    return f"{point.images_seen:,}", number(point.value)
