"""What becomes of the rest when something cannot be removed."""

from datetime import datetime
from typing import Any

import pytest
from structlog.testing import capture_logs

from service.errors import DatabaseUnavailable, StorageUnavailable
from service.jobs.housekeeping import Housekeeping
from tests.support.clock import ManualClock


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (RuntimeError("wrong"), {"event": "housekeeping.failed", "log_level": "error", "exc_info": True}),
        (StorageUnavailable("away"), {"event": "housekeeping.postponed", "log_level": "info", "error": "away"}),
        (DatabaseUnavailable("away"), {"event": "housekeeping.postponed", "log_level": "info", "error": "away"}),
    ],
)
async def test_a_purge_that_fails_is_told_and_keeps_no_other_from_its_turn(error: Exception, said: Any) -> None:
    clock, purged = ManualClock(), list[datetime]()

    async def fails(*, now: datetime) -> int:
        raise error

    async def works(*, now: datetime) -> int:
        purged.append(now)
        return 1

    housekeeping = Housekeeping(purges={"pins": fails, "uploads": works}, clock=clock)
    with capture_logs() as logs:
        assert not await housekeeping.tick()

    assert purged == [clock.now]
    assert logs == [{"purge": "pins", **said}]
