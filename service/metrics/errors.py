"""Refusals of metrics."""

from service.errors import Retriable


class MetricsUnavailable(Retriable):
    code, status, title = "metrics_unavailable", 503, "MLflow does not answer"
