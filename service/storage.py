"""Calls of the object store that do not block the event loop, and fail alike whatever is behind it."""

import asyncio
from collections.abc import Callable
from contextvars import copy_context
from functools import partial
from typing import ParamSpec, TypeVar

from service.errors import StorageUnavailable
from service.threads import Threads

_Arguments = ParamSpec("_Arguments")
_Result = TypeVar("_Result")

_LONGEST_SECONDS = 60.0
_threads = Threads(32, "store")  # a store that takes requests and does not answer keeps one for minutes


async def called(method: Callable[_Arguments, _Result], *args: _Arguments.args, **kwargs: _Arguments.kwargs) -> _Result:
    """What a blocking method of the store returns, within a minute; backends fail each in its way, and all mean one.

    Raises:
        FileNotFoundError: there is no such object.
        StorageUnavailable: the store does not answer.
    """
    try:
        async with asyncio.timeout(_LONGEST_SECONDS):
            return await _threads.run(partial(copy_context().run, method, *args, **kwargs))
    except FileNotFoundError:
        raise
    except Exception as error:
        raise StorageUnavailable(f"the object store does not answer ({type(error).__name__}): try again") from error
