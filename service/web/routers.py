"""What all routes of the REST interface have in common."""

from typing import Any

from fastapi import APIRouter, Depends, Request
from fastapi.dependencies.utils import get_flat_params
from fastapi.params import Query

from service.errors import InvalidRequest, ServiceError
from service.web.auth import documented_key, documented_project
from service.web.problems import EVERYWHERE, MOST_PROBLEMS, documented
from workers.contract.document import Problem
from workers.contract.spelling import did_you_mean


def v1_router(tag: str, *also: type[ServiceError]) -> APIRouter:
    """For routes below `/v1`; all of them may answer with the errors that are named, too."""
    return APIRouter(
        prefix="/v1",
        tags=[tag],
        dependencies=[Depends(documented_key), Depends(documented_project), Depends(_declared_query)],
        responses=documented(*EVERYWHERE, *also),
    )


def of_state(name: str) -> Any:
    """For a parameter of a route: what `service.state.State` has under that name.

    A coroutine although it waits for nothing: plain functions are run in threads.
    """

    async def found(request: Request) -> Any:
        return getattr(request.state, name)

    return Depends(found)


async def _declared_query(request: Request) -> None:
    """Refuse a misspelt parameter: what somebody asked for would not be done, or something else would."""
    if not request.query_params:
        return
    parameters = get_flat_params(request.scope["route"].dependant)
    declared = [one.alias for one in parameters if isinstance(one.field_info, Query)]
    unknown = [name for name in dict.fromkeys(request.query_params) if name not in declared]
    if unknown:
        problems = [
            # Only so many are shown, and looking for what was meant takes a while.
            Problem(
                f"/query/{name}",
                "unknown_parameter",
                f"unknown parameter{did_you_mean(name, declared) if number < MOST_PROBLEMS else ''}",
            )
            for number, name in enumerate(unknown)
        ]
        raise InvalidRequest("the path has no such parameter", problems=problems)
