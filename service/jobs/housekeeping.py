"""Rows that have served their time."""

from collections.abc import Awaitable
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from service.clock import Clock


class Purge(Protocol):
    """Removes what is too old at that time, and says how much that was."""

    def __call__(self, *, now: datetime) -> Awaitable[int]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Housekeeping:
    """Runs seldom: nobody waits for it."""

    purges: tuple[Purge, ...]
    clock: Clock

    async def tick(self) -> bool:
        """All of it once."""
        for purge in self.purges:
            await purge(now=self.clock())
        return False
