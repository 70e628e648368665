"""Spans go on with the caller's trace and say which route answered what."""

from typing import Any

import httpx2
import pytest
from fastapi import FastAPI, Request
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from service.web.requests import RequestMiddleware
from service.web.tracing import TracingMiddleware

TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = f"00-{TRACE}-b7ad6b7169203331-01"


async def seen(provider: TracerProvider | None, traceparent: str) -> Any:
    app = FastAPI()

    @app.get("/v1/things/{name}")
    async def show(request: Request) -> str | None:
        return str(request.state.traceparent) if request.state.traceparent else None

    app.add_middleware(RequestMiddleware)
    app.add_middleware(TracingMiddleware, provider=provider)
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://cdm.test") as client:
        headers = {"traceparent": traceparent, "X-Request-Id": "mine-1"}
        return (await client.get("/v1/things/secret-name", headers=headers)).json()


async def test_a_request_is_a_span_of_the_callers_trace() -> None:
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))

    handed_on = await seen(provider, PARENT)

    [span] = exporter.get_finished_spans()
    assert span.name == "GET /v1/things/{name}"
    assert dict(span.attributes or {}) == {
        "http.request.method": "GET",
        "http.route": "/v1/things/{name}",
        "http.response.status_code": 200,
        "cdm.request_id": "mine-1",
    }
    assert handed_on.split("-")[1] == TRACE
    assert handed_on.split("-")[2] == f"{span.context.span_id:016x}"


@pytest.mark.parametrize(
    ("given", "handed_on"), [(PARENT, PARENT), ("", None), ("nonsense", None), (f"00-{'0' * 32}-{'0' * 16}-01", None)]
)
async def test_without_a_place_to_send_spans_to_the_trace_is_handed_on(given: str, handed_on: str | None) -> None:
    assert await seen(None, given) == handed_on
