"""The service, killed at every point of launching, finishing and stopping jobs, and started again.

A real process is ended by SIGKILL: real stores on both databases, objects in files, and a Ray that errs by script over
real HTTP. `tests/support/scenarios.py` has what happens, `failpoints.py` the failpoints, `scenario_environment.py` what
must be true in the end: no job lost, none run twice, none stuck. Here it is killed at some of the failpoints, evenly
spread; `make test-chaos` has them all.
"""

from collections.abc import Callable

import pytest

from tests.support.fault_injection import FaultInjection, kill
from tests.support.scenarios import FINISH, LAUNCH, STOP

PROTOCOLS = {"launch": LAUNCH, "finish": FINISH, "stop": STOP}
RUNS = {"sqlite": 14, "postgres": 6}  # of each protocol


@pytest.mark.timeout(600)
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_service_that_is_killed_loses_no_job_and_runs_none_twice(
    fault_injection: FaultInjection, protocol: str, summarize: Callable[[str], None]
) -> None:
    points = fault_injection.distinct_failpoints(PROTOCOLS[protocol])
    share = points[:: max(1, len(points) // RUNS[fault_injection.kind])]
    assert len(share) >= RUNS[fault_injection.kind]

    fault_injection.run_all(share, kill)

    summarize(
        f"{protocol} on {fault_injection.kind}: {len(PROTOCOLS[protocol])} scenarios with {len(points)} distinct"
        f" failpoints; killed at {len(share)}: no job lost, doubled or stuck"
    )
