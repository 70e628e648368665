"""Calls of the object store that do not block the event loop, and fail alike whatever is behind it."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from functools import partial
from typing import ParamSpec, TypeVar

from service.errors import StorageUnavailable

_Arguments = ParamSpec("_Arguments")
_Result = TypeVar("_Result")

_LONGEST_SECONDS = 60.0
# A store that takes requests and does not answer keeps a thread for minutes. The event loop's own are few, and look up
# the names of Ray, MLflow and the database.
_threads = ThreadPoolExecutor(32, "store")


async def called(method: Callable[_Arguments, _Result], *args: _Arguments.args, **kwargs: _Arguments.kwargs) -> _Result:
    """What a blocking method of the store returns, within a minute; backends fail each in its way, and all mean one.

    Raises:
        FileNotFoundError: there is no such object.
        StorageUnavailable: the store does not answer.
    """
    call = partial(copy_context().run, method, *args, **kwargs)
    try:
        async with asyncio.timeout(_LONGEST_SECONDS):
            return await asyncio.get_running_loop().run_in_executor(_threads, call)
    except FileNotFoundError:
        raise
    except Exception as error:
        raise StorageUnavailable(f"the object store does not answer ({type(error).__name__}): try again") from error
