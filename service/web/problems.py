"""Every error leaves as RFC 9457 `application/problem+json`."""

from collections.abc import Iterator, Mapping, Sequence
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse
from starlette.routing import BaseRoute, Match

from service.errors import (
    DatabaseUnavailable,
    Forbidden,
    IdempotencyInFlight,
    IdempotencyMismatch,
    IdentityProviderUnavailable,
    InvalidRequest,
    MalformedRequest,
    NotAuthenticated,
    ProjectNotFound,
    RateLimited,
    RequestTimeout,
    RequestTooLarge,
    Retriable,
    ServiceError,
)
from service.web.description import COMPONENTS, with_headers
from service.web.views import FieldProblem, ProblemDetails
from workers.contract.document import Problem, problems_of

MEDIA_TYPE = "application/problem+json"
MOST_PROBLEMS = 100  # that are named
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
    members: dict[str, Any] = {**(extra or {})}
    details = ProblemDetails(
        type=f"urn:cdm-train:problem:{code}",
        title=title,
        status=status,
        detail=detail,
        instance=request.url.path,
        code=code,
        request_id=request.scope.get("state", {}).get("request_id", ""),
        errors=tuple(_shown(problems)),
        **members,
    )
    return JSONResponse(details.model_dump(mode="json", exclude_none=True), status, media_type=MEDIA_TYPE)


def _shown(problems: Sequence[Problem]) -> Iterator[FieldProblem]:
    """The first of them, and how many there are beside: somebody mends a few at a time, however many were sent."""
    for one in problems[:MOST_PROBLEMS]:
        yield FieldProblem(pointer=one.pointer, code=one.code, message=one.message)
    if (rest := len(problems) - MOST_PROBLEMS) > 0:
        yield FieldProblem(pointer="", code="more_problems", message=f"and {rest} more; mend these first")


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
    """What a route may answer beside success, for its OpenAPI description; codes that share a status share an entry.

    What is said of a status replaces what the router says of it, and so has what is answered everywhere, too.
    """
    statuses = dict.fromkeys(error.status for error in errors)
    known: dict[type[ServiceError], None] = dict.fromkeys((*errors, *EVERYWHERE))
    return {status: _refused_with([error for error in known if error.status == status]) for status in statuses}


def _refused_with(errors: Sequence[type[ServiceError]]) -> dict[str, Any]:
    """An answer of OpenAPI for errors of one status."""
    names = ["WWW-Authenticate"] if NotAuthenticated in errors else []
    names += ["Retry-After"] if any(issubclass(error, Retriable) for error in errors) else []
    return {
        "description": "; ".join(f"`{error.code}`: {error.title}" for error in errors),
        "content": {MEDIA_TYPE: {"schema": {"$ref": COMPONENTS.format(model=ProblemDetails.__name__)}}},
        **with_headers(*names),
    }


# What every router answers, and what POST routes answer besides.
EVERYWHERE: tuple[type[ServiceError], ...] = (
    *(NotAuthenticated, Forbidden, ProjectNotFound, InvalidRequest, RateLimited),
    *(DatabaseUnavailable, IdentityProviderUnavailable),
)
WITH_BODY = (MalformedRequest, RequestTimeout, RequestTooLarge)
EVERY_POST = (*WITH_BODY, IdempotencyMismatch, IdempotencyInFlight)


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
