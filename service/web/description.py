"""The OpenAPI document: what FastAPI does not know of the answers, and of what is sent without being asked for."""

from collections.abc import Sequence
from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel
from pydantic.json_schema import JsonSchemaMode, models_json_schema

from service.web.views import ProblemDetails

COMPONENTS = "#/components/schemas/{model}"
_HEADERS = {
    "X-Request-Id": "Of this request, as in the log of the service: the caller's own if that sent one",
    "RateLimit-Policy": "How many requests a credential may make (draft-ietf-httpapi-ratelimit-headers-10)",
    "RateLimit": "How many of those are left, and for how many seconds",
    "ETag": "Of this state, for `If-Match`",
    "Location": "Where what was created is",
    "Retry-After": "In so many seconds it may be tried again",
    "WWW-Authenticate": "Bearer",
    "Idempotent-Replayed": "`true`: this is the answer to the first request with this Idempotency-Key",
    "Accept-Ranges": "bytes",
    "Content-Range": "Which bytes these are, and how many there are",
}
_ALWAYS = ("X-Request-Id", "RateLimit-Policy", "RateLimit")


def with_headers(*names: str) -> dict[str, dict[str, Any]]:
    """Of an answer, for its description."""
    return {"headers": {name: {"$ref": f"#/components/headers/{name}"} for name in names}}


def sent(status: int, *names: str) -> dict[int | str, dict[str, Any]]:
    """Headers of the answers of this status, for the `responses` of a route."""
    return {status: with_headers(*names)}


class DescribedApp(FastAPI):
    """Its OpenAPI document also has headers, problem documents and `models`, which no route answers with as such."""

    def __init__(self, *, models: Sequence[type[BaseModel]] = (), **options: Any) -> None:
        super().__init__(**options)
        self._models: tuple[type[BaseModel], ...] = (ProblemDetails, *models)

    def openapi(self) -> dict[str, Any]:
        """Made when it is first asked for: that takes half a second."""
        if not self.openapi_schema:
            document = super().openapi()
            models: list[tuple[type[BaseModel], JsonSchemaMode]] = [(each, "serialization") for each in self._models]
            _, definitions = models_json_schema(models, ref_template=COMPONENTS)
            document["components"]["schemas"].update(definitions["$defs"])
            document["components"]["headers"] = {
                name: {"description": text, "schema": {"type": "integer" if name == "Retry-After" else "string"}}
                for name, text in _HEADERS.items()
            }
            for path, operations in document["paths"].items():
                for operation in operations.values() if path.startswith("/v1/") else ():
                    _add_headers(operation)
        return super().openapi()


def _add_headers(operation: dict[str, Any]) -> None:
    """Those of all answers, and of those that are repeated for a key."""
    is_repeatable = any(one["name"] == "Idempotency-Key" for one in operation.get("parameters", ()))
    for status, response in operation["responses"].items():
        names = (*_ALWAYS, "Idempotent-Replayed") if is_repeatable and status.startswith("2") else _ALWAYS
        response.setdefault("headers", {}).update(with_headers(*names)["headers"])
