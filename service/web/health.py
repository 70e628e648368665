"""Is the process alive, and is everything it needs?"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Annotated, cast

import structlog
from fastapi import APIRouter, Depends, Request, Response

from service.web.views import DependencyReadiness, Readiness

log = structlog.get_logger()

Checks = Mapping[str, Callable[[], Awaitable[None]]]  # by name; each returns if all is well, raises if not

_PATIENCE_SECONDS = 5.0

router = APIRouter(tags=["health"])


async def _checks(request: Request) -> Checks:
    return cast(Checks, request.state.checks)


@router.get("/healthz", summary="Is the process alive?")
async def healthz() -> dict[str, str]:
    return {"status": "ok"}


@router.get(
    "/readyz", summary="Can jobs be taken and run?", responses={503: {"model": Readiness, "description": "Not now"}}
)
async def readyz(checks: Annotated[Checks, Depends(_checks)], response: Response) -> Readiness:
    found = await asyncio.gather(*map(tried, checks.values()))
    dependencies = dict(zip(checks, found, strict=True))
    ready = all(dependency.ready for dependency in found)
    response.status_code = 200 if ready else 503
    return Readiness(ready=ready, dependencies=dependencies)


async def tried(check: Callable[[], Awaitable[None]]) -> DependencyReadiness:
    """What a check finds, within its patience."""
    try:
        async with asyncio.timeout(_PATIENCE_SECONDS):
            await check()
    except TimeoutError:
        return DependencyReadiness(ready=False, detail=f"no answer in {_PATIENCE_SECONDS:g} s")
    except Exception as error:  # noqa: BLE001 (each client fails in its own way; none may hide the others)
        return DependencyReadiness(ready=False, detail=f"{type(error).__name__}: {error}"[:500])
    return DependencyReadiness(ready=True, detail=None)
