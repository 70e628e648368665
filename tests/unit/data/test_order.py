"""The order of training images depends on the seed and on the number of images seen, and on nothing else."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from workers.data import sample_order

SEEDS = st.integers(0, 2**63 - 1)
SIZES = st.integers(1, 50)


@given(seed=SEEDS, num_images=SIZES, epoch=st.integers(0, 2**40))
def test_every_epoch_visits_every_image_once(seed: int, num_images: int, epoch: int) -> None:
    order = sample_order(seed, first=epoch * num_images, count=num_images, num_images=num_images)

    assert sorted(order) == list(range(num_images))


@given(seed=SEEDS, num_images=SIZES, first=st.integers(0, 10_000), sizes=st.lists(st.integers(0, 120), max_size=8))
def test_however_a_range_is_split_the_order_is_the_same(
    seed: int, num_images: int, first: int, sizes: list[int]
) -> None:
    whole = sample_order(seed, first=first, count=sum(sizes), num_images=num_images)
    starts = first + np.cumsum([0, *sizes])

    parts = [
        sample_order(seed, first=int(start), count=size, num_images=num_images)
        for start, size in zip(starts, sizes, strict=False)
    ]

    assert np.array_equal(np.concatenate([np.empty(0, dtype=np.int64), *parts]), whole)
    assert whole.dtype == np.int64


def test_epochs_and_seeds_have_orders_of_their_own() -> None:
    orders = [
        tuple(sample_order(seed, first=epoch * 100, count=100, num_images=100))
        for seed in range(5)
        for epoch in range(5)
    ]

    assert len(set(orders)) == 25


def test_every_image_comes_equally_often_at_every_place() -> None:
    """Over 6000 epochs of six images, a cell of the table has 1000 visits with a standard deviation of 29."""
    order = sample_order(7, first=0, count=36_000, num_images=6).reshape(-1, 6)

    table = np.stack([np.bincount(column, minlength=6) for column in order.T])

    assert abs(table - 1000).max() < 5 * 29


def test_the_order_of_a_seed_is_the_same_on_every_machine_and_in_every_version() -> None:
    assert sample_order(1, first=5, count=10, num_images=8).tolist() == [1, 6, 4, 7, 0, 6, 5, 2, 4, 1]


def test_a_range_handed_out_is_not_shared() -> None:
    first = sample_order(3, first=0, count=8, num_images=8)

    first[:] = 0

    assert sorted(sample_order(3, first=0, count=8, num_images=8)) == list(range(8))
