"""Refusals of metrics."""

from service.web.errors import Retriable


class MetricsUnavailable(Retriable):
    code, status, title = "metrics_unavailable", 503, "MLflow does not answer"
