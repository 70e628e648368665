"""One result for all who ask at about the same time."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

_Result = TypeVar("_Result")


class Shared(Generic[_Result]):
    """Calls `find` however often it is called itself, but one at a time, and not again while its result is fresh.

    What `find` raises is a result, too, or those who wait for a database that is away would ask it one by one.
    """

    def __init__(
        self,
        find: Callable[[], Awaitable[_Result]],
        *,
        fresh_seconds: float = 1.0,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._find = find
        self._fresh_seconds = fresh_seconds
        self._now = now
        self._found: asyncio.Task[_Result] | None = None
        self._found_at = 0.0

    async def __call__(self) -> _Result:
        if self._found is None or (self._found.done() and self._now() - self._found_at >= self._fresh_seconds):
            self._found = asyncio.create_task(self._once())
        return await asyncio.shield(self._found)  # who hangs up must not end it for the others

    async def _once(self) -> _Result:
        try:
            return await self._find()
        finally:
            self._found_at = self._now()
