"""Is the process alive, and is everything it needs?"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Annotated, cast

import structlog
from fastapi import APIRouter, Depends, Request, Response

from service.storage import begin_own_work
from service.web.views import DependencyReadiness, Readiness

log = structlog.get_logger()

Checks = Mapping[str, Callable[[], Awaitable[None]]]  # by name; each returns if all is well, raises if not
FindReadiness = Callable[[], Awaitable[Readiness]]

_PATIENCE_SECONDS = 5.0

router = APIRouter(tags=["health"])


async def _readiness(request: Request) -> Readiness:
    return await cast(FindReadiness, request.state.readiness)()


@router.get("/healthz", summary="Is the process alive?")
async def healthz() -> dict[str, str]:
    return {"status": "ok"}


@router.get(
    "/readyz", summary="Can jobs be taken and run?", responses={503: {"model": Readiness, "description": "Not now"}}
)
async def readyz(readiness: Annotated[Readiness, Depends(_readiness)], response: Response) -> Readiness:
    response.status_code = 200 if readiness.ready else 503
    return readiness


async def find_readiness(checks: Checks) -> Readiness:
    """Make all checks side by side; each has a few seconds."""
    found = await asyncio.gather(*(_tried(name, check) for name, check in checks.items()))
    return Readiness(ready=all(one.ready for one in found), dependencies=dict(zip(checks, found, strict=True)))


async def _tried(name: str, check: Callable[[], Awaitable[None]]) -> DependencyReadiness:
    begin_own_work()
    try:
        async with asyncio.timeout(_PATIENCE_SECONDS):
            await check()
    except TimeoutError:
        return DependencyReadiness(ready=False, detail=f"no answer in {_PATIENCE_SECONDS:g} s")
    except Exception as error:  # noqa: BLE001 (each client fails in its own way; none may hide the others)
        cause = error.__cause__ or error  # ours says only that it does not answer
        log.warning("dependency.not_ready", dependency=name, error=f"{type(cause).__name__}: {cause}")
        kind = type(error).__name__
        return DependencyReadiness(ready=False, detail=kind)  # strangers read it: its text may name hosts and users
    return DependencyReadiness(ready=True, detail=None)
