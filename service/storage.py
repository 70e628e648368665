"""Calls of the object store that do not block the event loop, and fail alike whatever is behind it; and what is made
of them."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar, copy_context
from functools import partial
from typing import ParamSpec, TypeVar

import structlog

from service.errors import StorageUnavailable
from workers.contract.document import Record, read_leniently
from workers.storage import ObjectStore

log = structlog.get_logger()

_Arguments = ParamSpec("_Arguments")
_Result = TypeVar("_Result")

_LONGEST_SECONDS = 60.0
_CALLS_AT_A_TIME = 8  # of one purpose: all others need the threads, too
# A store that takes requests and does not answer keeps a thread for minutes. The event loop's own are few, and look up
# the names of Ray, MLflow and the database. What clients ask for may be what hangs: it keeps no loop from its jobs.
_threads = ThreadPoolExecutor(32, "store")
_own_threads = ThreadPoolExecutor(32, "store-own")
_is_own_work = ContextVar("is_own_work", default=False)


def begin_own_work() -> None:
    """Have what this task asks of the store, and what the tasks do that it begins, not wait for requests of clients."""
    _is_own_work.set(True)


async def in_thread(
    method: Callable[_Arguments, _Result], *args: _Arguments.args, **kwargs: _Arguments.kwargs
) -> _Result:
    """What a blocking method of the store returns, within a minute; backends fail each in its way, and all mean one.

    Raises:
        FileNotFoundError: there is no such object.
        StorageUnavailable: the store does not answer.
    """
    call = partial(copy_context().run, method, *args, **kwargs)
    threads = _own_threads if _is_own_work.get() else _threads
    try:
        async with asyncio.timeout(_LONGEST_SECONDS):
            return await asyncio.get_running_loop().run_in_executor(threads, call)
    except FileNotFoundError:
        raise
    except Exception as error:
        raise StorageUnavailable(f"the object store does not answer ({_named(error)}): try again") from error


def _named(error: Exception) -> str:
    """Its kind, and of what S3 refuses the code: PermissionError and `InvalidAccessKeyId` are for operators to mend."""
    code = getattr(error, "response", {}).get("Error", {}).get("Code")
    return f"{type(error).__name__}, {code}" if code else type(error).__name__


async def get_or_none(object_store: ObjectStore, key: str) -> bytes | None:
    """An object; None if there is none."""
    try:
        return await in_thread(object_store.get, key)
    except FileNotFoundError:
        return None


async def record_or_none(object_store: ObjectStore, kind: type[Record], key: str) -> Record | None:
    """A record; one that cannot be read says nothing, and is as good as none."""
    data = await get_or_none(object_store, key)
    record = read_leniently(kind, data) if data else None
    if data and record is None:
        log.warning("record.unreadable", key=key)
    return record


async def remove_all(object_store: ObjectStore, prefix: str, *, first: str | None = None) -> int:
    """Delete all that begins so, and of that first the object without which the rest is nothing, if there is one such;
    how many objects that were."""
    keys = await in_thread(object_store.list, prefix)
    if first in keys:
        await in_thread(object_store.delete, first)
    await of_each(lambda key: in_thread(object_store.delete, key), [key for key in keys if key != first])
    return len(keys)


async def of_each(call: Callable[[str], Awaitable[_Result]], keys: Sequence[str]) -> list[_Result]:
    """What a call returns for each of them, in their order, some side by side."""
    return [found for some in some_at_a_time(keys) for found in await asyncio.gather(*map(call, some))]


def some_at_a_time(keys: Sequence[str]) -> list[Sequence[str]]:
    """In pieces whose calls may be made side by side."""
    return [keys[first : first + _CALLS_AT_A_TIME] for first in range(0, len(keys), _CALLS_AT_A_TIME)]
