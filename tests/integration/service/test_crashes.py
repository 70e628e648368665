"""The service, killed at every point of launching, finishing and stopping jobs, and started again.

A real process is ended by SIGKILL: real stores on both databases, objects in files, and a Ray that errs by script over
real HTTP. `tests/support/stories.py` has what happens, `doom.py` the points, `endurance.py` what must be true in the
end: no job lost, none run twice, none stuck. Here it is killed at some of the points, evenly spread; `make test-chaos`
has them all.
"""

from collections.abc import Callable

import pytest

from tests.support.endurance import Endurance, kill
from tests.support.stories import FINISH, LAUNCH, STOP

PROTOCOLS = {"launch": LAUNCH, "finish": FINISH, "stop": STOP}
RUNS = {"sqlite": 14, "postgres": 6}  # of each protocol


@pytest.mark.timeout(600)
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_service_that_is_killed_loses_no_job_and_runs_none_twice(
    endurance: Endurance, protocol: str, tally: Callable[[str], None]
) -> None:
    points = endurance.distinct(PROTOCOLS[protocol])
    share = points[:: max(1, len(points) // RUNS[endurance.kind])]
    assert len(share) >= RUNS[endurance.kind]

    endurance.each(share, kill)

    tally(
        f"{protocol} on {endurance.kind}: {len(PROTOCOLS[protocol])} stories with {len(points)} distinct points;"
        f" killed at {len(share)}: no job lost, doubled or stuck"
    )
