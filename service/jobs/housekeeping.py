"""Rows and objects that have served their time."""

from collections.abc import Awaitable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

import structlog

from service.clock import Clock
from service.database.leases import Replica
from service.errors import DatabaseUnavailable, StorageUnavailable
from service.jobs.counters import Counters, PurgeName

log = structlog.get_logger()


class Purge(Protocol):
    """Removes what is too old at that time, and says how much that was."""

    def __call__(self, *, now: datetime) -> Awaitable[int]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Housekeeping:
    """Runs seldom, in one replica at a time: nobody waits for it. `purges` are named by what they remove.

    What two remove at a time, one may remove after it was brought anew.
    """

    purges: Mapping[PurgeName, Purge]
    counters: Counters
    replica: Replica
    clock: Clock

    async def tick(self) -> bool | None:
        """All of it once. What fails is told, and keeps nothing else from being removed."""
        return False if await self.replica.alone("housekeeping", self._purge) else None

    async def _purge(self) -> None:
        for name, purge in self.purges.items():
            try:
                await purge(now=self.clock())
            except (DatabaseUnavailable, StorageUnavailable) as error:
                self.counters.purge_failed(name)
                log.info("housekeeping.postponed", purge=name, error=error.detail)
            except Exception:
                self.counters.purge_failed(name)
                log.exception("housekeeping.failed", purge=name)
