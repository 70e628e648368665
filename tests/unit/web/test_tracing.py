"""Spans go on with the caller's trace and say which route answered what."""

import httpx2
import pytest
from fastapi import FastAPI
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from service.web.requests import RequestMiddleware
from service.web.tracing import TracingMiddleware

TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = f"00-{TRACE}-b7ad6b7169203331-01"


async def span_of(traceparent: str) -> ReadableSpan:
    """Of a request that has this header."""
    exporter, provider, app = InMemorySpanExporter(), TracerProvider(), FastAPI()
    provider.add_span_processor(SimpleSpanProcessor(exporter))

    @app.get("/v1/things/{name}")
    async def show(name: str) -> str:
        return name

    app.add_middleware(RequestMiddleware)
    app.add_middleware(TracingMiddleware, provider=provider)
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://cdm.test") as client:
        await client.get("/v1/things/secret-name", headers={"traceparent": traceparent, "X-Request-Id": "mine-1"})
    [span] = exporter.get_finished_spans()
    return span


async def test_a_request_is_a_span_of_the_callers_trace() -> None:
    span = await span_of(PARENT)

    assert span.name == "GET /v1/things/{name}"
    assert dict(span.attributes or {}) == {
        "http.request.method": "GET",
        "http.route": "/v1/things/{name}",
        "http.response.status_code": 200,
        "cdm.request_id": "mine-1",
    }
    assert f"{span.context.trace_id:032x}" == TRACE
    assert span.parent is not None
    assert f"{span.parent.span_id:016x}" == "b7ad6b7169203331"


@pytest.mark.parametrize("given", ["", "nonsense", f"00-{'0' * 32}-{'0' * 16}-01"])
async def test_a_request_without_a_trace_begins_one(given: str) -> None:
    span = await span_of(given)

    assert span.parent is None
    assert span.context.trace_id
