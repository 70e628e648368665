"""What every request passes through, from the outside in."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastapi import FastAPI

from service.clock import Clock
from service.settings import Requests
from service.web.audit import RefusalAuditMiddleware
from service.web.auth import AuthMiddleware
from service.web.bodies import BodyLimitMiddleware
from service.web.idempotency import IdempotencyMiddleware
from service.web.rates import RateLimitMiddleware
from service.web.requests import RequestMiddleware
from service.web.start import StartMiddleware
from service.web.telemetry import Telemetry, TelemetryMiddleware
from service.web.tracing import TracingMiddleware

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider


def install_middleware(
    app: FastAPI,
    *,
    clock: Clock,
    telemetry: Telemetry,
    tracing: TracerProvider | None,
    limits: Requests,
) -> None:
    """Needs in the state of the lifespan: `database` (Database), `authenticator` (Authenticator).

    Nothing is read from strangers but their headers; what is refused as forbidden is audited; a repeated POST stops
    before it reaches a route. Errors raised on the way become problem documents in RequestMiddleware.
    """
    # The last one added is the first to see a request.
    app.add_middleware(IdempotencyMiddleware, clock=clock)
    app.add_middleware(BodyLimitMiddleware, max_bytes=limits.max_body_bytes, timeout_seconds=limits.timeout_seconds)
    app.add_middleware(RateLimitMiddleware, per_minute=limits.per_minute)
    app.add_middleware(AuthMiddleware, failures_per_minute=limits.failures_per_minute)
    app.add_middleware(RefusalAuditMiddleware, clock=clock)
    app.add_middleware(RequestMiddleware)
    if tracing:
        app.add_middleware(TracingMiddleware, provider=tracing)
    app.add_middleware(TelemetryMiddleware, telemetry=telemetry)
    app.add_middleware(StartMiddleware)
