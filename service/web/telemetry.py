"""What Prometheus is told: requests by route and status, and what others add when they are asked."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from itertools import chain
from typing import cast

import structlog
from fastapi import APIRouter, Request, Response
from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector, generate_latest
from prometheus_client.metrics_core import Metric
from starlette.types import ASGIApp, Message, Receive, Scope, Send

log = structlog.get_logger()

# Gauges as they are at this moment. Labels must be few: never names of jobs, users or projects.
CollectMetrics = Callable[[], Awaitable[Sequence[Metric]]]

_MEDIA_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_METHODS = frozenset({"GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE"})
_PATIENCE_SECONDS = 8.0  # Prometheus waits ten for all of it
_BUCKETS_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class Telemetry:
    """The counters of one application, in a registry of its own: a process may have several applications."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self._requests = Counter(
            "cdm_http_requests", "Answers by route template", ["method", "route", "status"], registry=self.registry
        )
        self._seconds = Histogram(
            "cdm_http_request_seconds",
            "Until the answer began",
            ["method", "route"],
            buckets=_BUCKETS_SECONDS,
            registry=self.registry,
        )
        self._failures = Counter(
            "cdm_collect_failures", "Times that a scrape lacked a part of what it should have", registry=self.registry
        )

    def observe(self, scope: Scope, *, status: int, seconds: float) -> None:
        method = scope["method"] if scope["method"] in _METHODS else "other"
        route = route_template(scope)
        self._requests.labels(method, route, str(status)).inc()
        self._seconds.labels(method, route).observe(seconds)

    async def exposition(self, collectors: Sequence[CollectMetrics]) -> bytes:
        """All of it as text; what one of them cannot say now is left out."""
        families = await asyncio.gather(*map(self._collected, collectors))
        return generate_latest(_Joined(self.registry.collect(), *families))

    async def _collected(self, collect: CollectMetrics) -> Sequence[Metric]:
        try:
            async with asyncio.timeout(_PATIENCE_SECONDS):
                return await collect()
        except Exception as error:  # noqa: BLE001 (whatever it is, the rest must be seen, now most of all)
            self._failures.inc()
            log.warning("metrics.not_collected", error=f"{type(error).__name__}: {error}")
            return ()

    def router(self) -> APIRouter:
        """`GET /metrics`; finds what is to be asked in `request.state.collect_metrics`."""
        router = APIRouter(tags=["health"])

        @router.get("/metrics", summary="Metrics for Prometheus", response_class=Response)
        async def metrics(request: Request) -> Response:
            collectors = cast(Sequence[CollectMetrics], request.state.collect_metrics)
            return Response(await self.exposition(collectors), media_type=_MEDIA_TYPE)

        return router


class _Joined:
    """Several sources as the one that the exposition reads."""

    def __init__(self, *sources: Iterable[Metric]) -> None:
        self._sources = sources

    def collect(self) -> Iterable[Metric]:
        return chain(*self._sources)


def route_template(scope: Scope) -> str:
    """`/v1/jobs/{job_id}`; paths that lead nowhere, or were refused before, are one."""
    return str(getattr(scope.get("route"), "path_format", "none"))


class TelemetryMiddleware:
    """Counts every answer, those of other middleware too: it belongs outside of all of them."""

    def __init__(self, app: ASGIApp, *, telemetry: Telemetry) -> None:
        self._app = app
        self._telemetry = telemetry

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.monotonic()

        async def send_and_see(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._telemetry.observe(scope, status=message["status"], seconds=time.monotonic() - started)
            await send(message)

        await self._app(scope, receive, send_and_see)
