"""The service, killed and frozen at every failpoint of every scenario, and killed twice.

It takes more than an hour on two cores. `tests/integration/service` has the same in minutes at some of the failpoints.
"""

import random
from collections.abc import Callable

import pytest

from tests.support.fault_injection import FaultInjection, freeze, kill
from tests.support.scenarios import SCENARIOS

TWICE = 300
_LONG = 6 * 3600


@pytest.mark.timeout(_LONG)
@pytest.mark.parametrize("name", SCENARIOS)
def test_killed_at_every_point_that_leaves_a_state_of_its_own(
    fault_injection: FaultInjection, name: str, summarize: Callable[[str], None]
) -> None:
    points = fault_injection.distinct_failpoints([name])

    fault_injection.run_all(points, kill)

    summarize(f"{name!r} on {fault_injection.kind}: killed at all {len(points)} distinct failpoints")


@pytest.mark.timeout(_LONG)
def test_killed_in_the_middle_of_transactions(
    fault_injection: FaultInjection, summarize: Callable[[str], None]
) -> None:
    """With locks held and half of the rows written: where one that is rolled back differs from one never begun."""
    points = fault_injection.failpoints_in_transactions(SCENARIOS)
    share = points[:: max(1, len(points) // TWICE)]

    fault_injection.run_all(share, kill)

    summarize(f"transactions on {fault_injection.kind}: killed before {len(share)} of {len(points)} commits")


@pytest.mark.timeout(_LONG)
def test_killed_twice(fault_injection: FaultInjection, summarize: Callable[[str], None]) -> None:
    """The process that goes on after a kill is killed as well, soon after it began."""
    chance = random.Random(4)  # noqa: S311 (reproducible)
    points = fault_injection.distinct_failpoints(SCENARIOS)
    share = chance.sample(points, min(TWICE, len(points)))

    fault_injection.run_all(share, lambda injection, name, point: kill(injection, name, point, 1 + point * 7919 % 40))

    summarize(f"all scenarios on {fault_injection.kind}: killed twice, {len(share)} times")


@pytest.mark.timeout(_LONG)
def test_replicas_frozen_at_every_point(replicas: FaultInjection, summarize: Callable[[str], None]) -> None:
    points = replicas.distinct_failpoints(SCENARIOS)

    replicas.run_all(points, freeze)

    summarize(f"replicas on postgres: frozen at all {len(points)} distinct failpoints of all scenarios")


@pytest.mark.timeout(_LONG)
def test_replicas_frozen_in_the_middle_of_transactions(
    replicas: FaultInjection, summarize: Callable[[str], None]
) -> None:
    """They hold locks that the others need, until Postgres takes them away."""
    points = replicas.failpoints_in_transactions(SCENARIOS)
    share = points[:: max(1, len(points) // TWICE)]

    replicas.run_all(share, freeze)

    summarize(f"replicas on postgres: frozen before {len(share)} of {len(points)} commits")
