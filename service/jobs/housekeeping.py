"""Rows and objects that have served their time."""

from collections.abc import Awaitable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

import structlog

from service.clock import Clock
from service.database import Database
from service.database.leases import alone
from service.errors import DatabaseUnavailable, StorageUnavailable

log = structlog.get_logger()

_LEASE_SECONDS = 30.0


class Purge(Protocol):
    """Removes what is too old at that time, and says how much that was."""

    def __call__(self, *, now: datetime) -> Awaitable[int]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Housekeeping:
    """Runs seldom, in one replica at a time: nobody waits for it. `purges` are named by what they remove.

    `token` tells this replica from others. What two remove at a time, one may remove after it was brought anew.
    """

    purges: Mapping[str, Purge]
    database: Database
    clock: Clock
    token: str

    async def tick(self) -> bool:
        """All of it once. What fails is told, and keeps nothing else from being removed."""
        await alone(self.database, "housekeeping", self.token, self._purge, clock=self.clock, seconds=_LEASE_SECONDS)
        return False

    async def _purge(self) -> None:
        for name, purge in self.purges.items():
            try:
                await purge(now=self.clock())
            except (DatabaseUnavailable, StorageUnavailable) as error:
                log.info("housekeeping.postponed", purge=name, error=error.detail)
            except Exception:
                log.exception("housekeeping.failed", purge=name)
