"""Every error leaves as RFC 9457 `application/problem+json`."""

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic.json_schema import models_json_schema
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse
from starlette.routing import BaseRoute, Match

from service.errors import (
    DatabaseUnavailable,
    InvalidRequest,
    MalformedRequest,
    NotAuthenticated,
    Retriable,
    ServiceError,
)
from service.web.errors import (
    Forbidden,
    IdempotencyInFlight,
    IdempotencyMismatch,
    RateLimited,
    RequestTimeout,
    RequestTooLarge,
)
from service.web.views import FieldProblem, ProblemDetails
from workers.contract.document import Problem, problems_of

MEDIA_TYPE = "application/problem+json"
_NOT_CALLED_JSON = Problem("", "content_type", "send it with the header Content-Type: application/json")


def problem(
    request: Request,
    *,
    status: int,
    code: str,
    title: str,
    detail: str,
    problems: Sequence[Problem] = (),
    extra: Mapping[str, str | list[str]] | None = None,
) -> JSONResponse:
    """The answer to a request that failed."""
    details = ProblemDetails(
        type=f"urn:cdm-train:problem:{code}",
        title=title,
        status=status,
        detail=detail,
        instance=request.url.path,
        code=code,
        request_id=request.scope.get("state", {}).get("request_id", ""),
        errors=tuple(FieldProblem(pointer=one.pointer, code=one.code, message=one.message) for one in problems),
    )
    return JSONResponse({**details.model_dump(mode="json"), **(extra or {})}, status, media_type=MEDIA_TYPE)


def refusal(request: Request, error: ServiceError) -> JSONResponse:
    """The answer to a request that is refused."""
    response = problem(
        request,
        status=error.status,
        code=error.code,
        title=error.title,
        detail=error.detail,
        problems=error.problems,
        extra=error.extra,
    )
    if isinstance(error, Retriable):
        response.headers["Retry-After"] = str(error.retry_after_seconds)
    elif error.status == HTTPStatus.UNAUTHORIZED:
        response.headers["WWW-Authenticate"] = "Bearer"
    return response


def documented(*errors: type[ServiceError]) -> dict[int | str, dict[str, Any]]:
    """What a route may answer beside success, for its OpenAPI description; codes that share a status share an entry."""
    schema = {MEDIA_TYPE: {"schema": {"$ref": _COMPONENTS.format(model=ProblemDetails.__name__)}}}
    said: dict[int, str] = {}
    for error in errors:
        line = f"`{error.code}`: {error.title}"
        said[error.status] = f"{said[error.status]}; {line}" if error.status in said else line
    return {status: {"description": description, "content": schema} for status, description in said.items()}


# What every router answers, and what POST routes answer besides; a status that a route documents itself, it says whole.
EVERYWHERE = (NotAuthenticated, Forbidden, InvalidRequest, RateLimited, DatabaseUnavailable)
WITH_BODY = (MalformedRequest, RequestTimeout, RequestTooLarge)
EVERY_POST = (*WITH_BODY, InvalidRequest, IdempotencyMismatch, IdempotencyInFlight)


class DescribedApp(FastAPI):
    """With the problem document in its OpenAPI description: FastAPI knows no models but those it answers with."""

    def openapi(self) -> dict[str, Any]:
        """Made when it is first asked for: that takes half a second."""
        if not self.openapi_schema:
            _, definitions = models_json_schema([(ProblemDetails, "serialization")], ref_template=_COMPONENTS)
            super().openapi()["components"]["schemas"].update(definitions["$defs"])
        return super().openapi()


_COMPONENTS = "#/components/schemas/{model}"


def install_problems(app: FastAPI) -> None:
    """Answer refusals, wrong requests and unknown paths with problem documents."""

    @app.exception_handler(ServiceError)
    async def refused(request: Request, error: ServiceError) -> JSONResponse:
        return refusal(request, error)

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        if first["type"] == "json_invalid":
            return refusal(request, MalformedRequest(f"{first['ctx']['error']} at character {first['loc'][-1]}"))
        problems = [Problem(one.pointer.removeprefix("/body"), one.code, one.message) for one in problems_of(error)]
        if isinstance(error.body, bytes):  # FastAPI reads a body as JSON only if it is called that
            problems = [_NOT_CALLED_JSON if one.pointer == "" else one for one in problems]
        detail = f"{len(problems)} {'field is' if len(problems) == 1 else 'fields are'} wrong"
        return refusal(request, InvalidRequest(detail, problems=problems))

    @app.exception_handler(HTTPException)
    async def not_served(request: Request, error: HTTPException) -> JSONResponse:
        status = HTTPStatus(error.status_code)
        response = problem(
            request,
            status=status,
            code=status.name.lower(),
            title=status.phrase,
            detail=f"{request.method} {request.url.path}: {error.detail}",
        )
        response.headers.update(error.headers or {})
        if status is HTTPStatus.METHOD_NOT_ALLOWED:
            response.headers["Allow"] = ", ".join(_allowed_methods(request))
        return response


def _allowed_methods(request: Request) -> list[str]:
    """All that the path is served for; the router knows but those of the first route that fits."""
    routes: Sequence[BaseRoute] = request.app.routes
    return [
        method
        for method in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")
        if any(route.matches({**request.scope, "method": method})[0] is Match.FULL for route in routes)
    ]
