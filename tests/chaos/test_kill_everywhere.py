"""The service, killed and frozen at every point of every story, and killed twice; more than an hour, on two cores.

`tests/integration/service` has the same in minutes at some of the points.
"""

import random
from collections.abc import Callable

import pytest

from tests.support.endurance import Endurance, freeze, kill
from tests.support.stories import STORIES

TWICE = 300
_LONG = 6 * 3600


@pytest.mark.timeout(_LONG)
@pytest.mark.parametrize("name", STORIES)
def test_killed_at_every_point_that_leaves_a_state_of_its_own(
    endurance: Endurance, name: str, tally: Callable[[str], None]
) -> None:
    points = endurance.distinct([name])

    endurance.each(points, kill)

    tally(f"{name!r} on {endurance.kind}: killed at all {len(points)} distinct points")


@pytest.mark.timeout(_LONG)
def test_killed_in_the_middle_of_transactions(endurance: Endurance, tally: Callable[[str], None]) -> None:
    """With locks held and half of the rows written: where one that is rolled back differs from one never begun."""
    points = endurance.in_transactions(STORIES)
    share = points[:: max(1, len(points) // TWICE)]

    endurance.each(share, kill)

    tally(f"transactions on {endurance.kind}: killed before {len(share)} of {len(points)} commits")


@pytest.mark.timeout(_LONG)
def test_killed_twice(endurance: Endurance, tally: Callable[[str], None]) -> None:
    """The process that goes on after a kill is killed as well, soon after it began."""
    chance = random.Random(4)  # noqa: S311 (reproducible)
    points = endurance.distinct(STORIES)
    share = chance.sample(points, min(TWICE, len(points)))

    endurance.each(share, lambda endurance, name, point: kill(endurance, name, point, 1 + point * 7919 % 40))

    tally(f"all stories on {endurance.kind}: killed twice, {len(share)} times")


@pytest.mark.timeout(_LONG)
def test_replicas_frozen_at_every_point(replicas: Endurance, tally: Callable[[str], None]) -> None:
    points = replicas.distinct(STORIES)

    replicas.each(points, freeze)

    tally(f"replicas on postgres: frozen at all {len(points)} distinct points of all stories")


@pytest.mark.timeout(_LONG)
def test_replicas_frozen_in_the_middle_of_transactions(replicas: Endurance, tally: Callable[[str], None]) -> None:
    """They hold locks that the others need, until Postgres takes them away."""
    points = replicas.in_transactions(STORIES)
    share = points[:: max(1, len(points) // TWICE)]

    replicas.each(share, freeze)

    tally(f"replicas on postgres: frozen before {len(share)} of {len(points)} commits")
