"""OpenTelemetry spans of requests, if the operator has named a place to send them to; without, nothing is imported."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.web.telemetry import route_template

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.trace import Span


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
    """Makes a span of each request, in the caller's trace if it has one (`traceparent`, W3C)."""

    def __init__(self, app: ASGIApp, *, provider: TracerProvider) -> None:
        self._app = app
        self._provider = provider

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        from opentelemetry.trace import SpanKind
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        given = Headers(scope=scope).get("traceparent", "")
        context = TraceContextTextMapPropagator().extract({"traceparent": given})
        tracer = self._provider.get_tracer("service.web")
        with tracer.start_as_current_span(scope["method"], context=context, kind=SpanKind.SERVER) as span:

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
