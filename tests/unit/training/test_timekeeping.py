"""Where the time of an attempt went."""

from workers.contract.records import TimeBreakdown
from workers.training.history import History
from workers.training.timekeeping import Timekeeper


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_every_second_is_charged_to_one_cause() -> None:
    clock = Clock()
    keeper = Timekeeper(History(spent=TimeBreakdown(preparing=1), furthest=200), clock=clock)

    for seconds, cause in ((5.0, "preparing"), (2.0, "checkpointing"), (1.0, "sampling")):
        clock.now += seconds
        assert keeper.charge(cause) == seconds
    for seconds, seen in ((10.0, 200), (20.0, 300)):
        clock.now += seconds
        keeper.charge_training(seen)

    assert keeper.ledger == TimeBreakdown(preparing=6, checkpointing=2, sampling=1, recomputed=10, useful=20)
    assert sum(keeper.ledger.model_dump().values()) == clock.now + 1
