"""Metrics as clients see them. Pydantic only, because the SDK is built on it."""

from datetime import datetime
from typing import Annotated

from pydantic import Field

from service.web.views import View

MetricValue = Annotated[float | None, Field(description="null where it was not a finite number")]


class MetricPoint(View):
    """A value, where in training and when it was measured."""

    images_seen: int
    value: MetricValue
    time: datetime


class MetricSeries(View):
    """One curve."""

    key: str
    latest: Annotated[MetricPoint | None, Field(description="null if nothing was measured under this key")]
    points: Annotated[tuple[MetricPoint, ...], Field(description="By images seen; empty unless the key was asked for")]


class MetricSeriesList(View):
    """Curves of a job."""

    data: tuple[MetricSeries, ...]


class MetricRow(View):
    """What was measured at one moment, as the live stream tells it."""

    attempt: int
    images_seen: int
    time: datetime
    values: dict[str, MetricValue]
