"""Threads for calls that block, apart by what they wait for: where that does not answer, others have theirs."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar
from weakref import WeakKeyDictionary

_Result = TypeVar("_Result")


class Threads:
    """So many for one purpose. The event loop's own are few, and look up the names of Ray, MLflow and the database.

    Each event loop has its own; they end with it.
    """

    def __init__(self, most: int, purpose: str) -> None:
        self._most, self._purpose = most, purpose
        self._pools: WeakKeyDictionary[asyncio.AbstractEventLoop, ThreadPoolExecutor] = WeakKeyDictionary()

    def run(self, call: Callable[[], _Result]) -> asyncio.Future[_Result]:
        """What it returns; it may have to wait for a thread."""
        loop = asyncio.get_running_loop()
        pool = self._pools.get(loop) or self._pools.setdefault(loop, ThreadPoolExecutor(self._most, self._purpose))
        return loop.run_in_executor(pool, call)
