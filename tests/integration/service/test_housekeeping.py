"""What has served its time is removed by one replica at a time, and all of it that can be."""

from dataclasses import replace
from datetime import datetime
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from structlog.testing import capture_logs

from service.database import Database
from service.database.leases import Replica
from service.errors import DatabaseUnavailable, StorageUnavailable
from service.jobs.counters import Counters
from service.jobs.housekeeping import Housekeeping
from tests.support.clock import ManualClock


def replica(database: Database, clock: ManualClock) -> Replica:
    return Replica(database=database, token="ours", clock=clock)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (RuntimeError("wrong"), {"event": "housekeeping.failed", "log_level": "error", "exc_info": True}),
        (StorageUnavailable("away"), {"event": "housekeeping.postponed", "log_level": "info", "error": "away"}),
        (DatabaseUnavailable("away"), {"event": "housekeeping.postponed", "log_level": "info", "error": "away"}),
    ],
)
async def test_a_purge_that_fails_is_told_and_keeps_no_other_from_its_turn(
    error: Exception, said: Any, database: Database
) -> None:
    clock, purged = ManualClock(), list[datetime]()

    async def fails(*, now: datetime) -> int:
        raise error

    async def works(*, now: datetime) -> int:
        purged.append(now)
        return 1

    purges = {"pins": fails, "uploads": works}
    registry = CollectorRegistry()
    housekeeping = Housekeeping(
        purges=purges, counters=Counters(registry), replica=replica(database, clock), clock=clock
    )
    with capture_logs() as logs:
        assert not await housekeeping.tick()

    assert purged == [clock.now]
    assert logs == [{"purge": "pins", **said}]
    failed = {name: registry.get_sample_value("cdm_purges_failed_total", {"purge": name}) for name in purges}
    assert failed == {"pins": 1, "uploads": 0}


async def test_nothing_is_removed_while_another_replica_is_at_it(database: Database) -> None:
    clock, purged = ManualClock(), list[datetime]()

    async def works(*, now: datetime) -> int:
        purged.append(now)
        return 1

    ours = replica(database, clock)
    housekeeping = Housekeeping(
        purges={"uploads": works}, counters=Counters(CollectorRegistry()), replica=ours, clock=clock
    )
    assert await replace(ours, token="theirs").hold("housekeeping")

    await housekeeping.tick()
    clock.advance(31)
    await housekeeping.tick()

    assert purged == [clock.now]
