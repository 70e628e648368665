"""OpenTelemetry spans of requests, if the operator has named a place to send them to; without, nothing is imported."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.web.telemetry import route_template

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.trace import Span

_TRACEPARENT = re.compile(r"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")


def open_tracing(endpoint: str) -> TracerProvider:
    """Sends spans by OTLP over HTTP to `endpoint` (`http://collector:4318/v1/traces`), in the background.

    Call `shutdown()` on it at the end, which sends what is left; needs the extra `tracing`.
    """
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    provider = TracerProvider(resource=Resource.create({"service.name": "cdm-train"}))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=endpoint)))
    return provider


class TracingMiddleware:
    """Goes on with the caller's trace (`traceparent`, W3C), and leaves its own in `request.state.traceparent`.

    Without a provider no spans are made, and a well-formed `traceparent` is handed on as it came.
    """

    def __init__(self, app: ASGIApp, *, provider: TracerProvider | None) -> None:
        self._app = app
        self._provider = provider

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = Headers(scope=scope).get("traceparent", "")
        parent = given if _TRACEPARENT.fullmatch(given) else None
        if self._provider is None:
            scope.setdefault("state", {})["traceparent"] = parent
            await self._app(scope, receive, send)
        else:
            await self._traced(self._provider, parent, scope, receive, send)

    async def _traced(
        self, provider: TracerProvider, parent: str | None, scope: Scope, receive: Receive, send: Send
    ) -> None:
        from opentelemetry.trace import SpanKind
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        propagator = TraceContextTextMapPropagator()
        context = propagator.extract({"traceparent": parent} if parent else {})
        tracer = provider.get_tracer("service.web")
        with tracer.start_as_current_span(scope["method"], context=context, kind=SpanKind.SERVER) as span:
            carrier: dict[str, str] = {}
            propagator.inject(carrier)
            scope.setdefault("state", {})["traceparent"] = carrier["traceparent"]

            async def send_and_see(message: Message) -> None:
                if message["type"] == "http.response.start":
                    span.set_attribute("http.response.status_code", message["status"])
                await send(message)

            try:
                await self._app(scope, receive, send_and_see)
            finally:
                _describe(span, scope)


def _describe(span: Span, scope: Scope) -> None:
    span.update_name(f"{scope['method']} {route_template(scope)}")
    span.set_attribute("http.request.method", scope["method"])
    span.set_attribute("http.route", route_template(scope))
    span.set_attribute("cdm.request_id", scope.get("state", {}).get("request_id", ""))
