"""What waits in memory: in order, bounded, in batches that are bounded, too."""

import random
from collections import deque

from workers.tracking.backlog import ItemBacklog


def test_any_mixture_of_puts_and_takes_keeps_the_order_and_the_bound() -> None:
    chance, model, num_dropped = random.Random(1), deque[str](), 0  # noqa: S311 (no secret)
    backlog = ItemBacklog[str](len, max_bytes=1000)

    for number in range(20_000):
        if chance.random() < 0.999:
            item = f"{number}".ljust(chance.randrange(5, 200), "x")
            dropped = backlog.put(item)
            model.append(item)
            for _ in range(dropped):
                model.popleft()
            num_dropped += dropped
        else:
            for taken in backlog.take():
                assert taken == model.popleft()
        assert len(backlog) == len(model)
        assert sum(map(len, model)) <= 1000

    assert num_dropped > 100, "it was full now and then"


def test_the_newest_is_kept_however_large_it_is() -> None:
    backlog = ItemBacklog[str](len, max_bytes=10)

    assert backlog.put("small") == 0
    assert backlog.put("large" * 10) == 1
    assert backlog.take() == ["large" * 10]


def test_a_batch_is_bounded_in_items_and_bytes_and_never_empty() -> None:
    backlog = ItemBacklog[str](len)
    pictures = [str(number) * (3 << 20) for number in range(5)]
    rows = [str(number) for number in range(1200)]
    for item in pictures + rows:
        backlog.put(item)

    batches = [backlog.take() for _ in range(5)]

    assert [len(batch) for batch in batches] == [2, 2, 500, 500, 201]
    assert [item for batch in batches for item in batch] == pictures + rows
