"""Calls of the object store that do not block the event loop, and fail alike whatever is behind it."""

import asyncio
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from service.errors import StorageUnavailable

_Arguments = ParamSpec("_Arguments")
_Result = TypeVar("_Result")


async def called(method: Callable[_Arguments, _Result], *args: _Arguments.args, **kwargs: _Arguments.kwargs) -> _Result:
    """What a blocking method of the store returns; each backend fails in its own way, all mean the same here."""
    try:
        return await asyncio.to_thread(method, *args, **kwargs)
    except FileNotFoundError:
        raise
    except Exception as error:
        raise StorageUnavailable(f"the object store does not answer ({type(error).__name__}): try again") from error
