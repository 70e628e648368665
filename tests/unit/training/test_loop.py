"""What the processes of a run do together beside their steps."""

from unittest.mock import MagicMock, call

import pytest

from tests.support.specs import smoke_spec
from workers.training.loop import _Loop


@pytest.mark.parametrize("is_first", [True, False])
def test_all_wait_for_the_last_checkpoint_with_no_other_limit_than_the_stores(is_first: bool) -> None:
    """What follows are collectives, which give up after minutes."""
    seen = MagicMock()
    loop = _Loop(seen.world, smoke_spec(), seen.state, seen.images, seen.recorder if is_first else None, seen.watchdog)

    loop._checkpoint(is_last=True, is_urgent=False)

    saved = [call.recorder.last_checkpoint(seen.state)] if is_first else []
    assert seen.method_calls == [call.watchdog.paused(), *saved, call.world.barrier()]
