"""Work that is begun before its result is asked for: no more of it than was said."""

from collections.abc import Iterator

from workers.storage.ahead import ahead


def test_results_come_in_order_and_so_many_at_a_time_are_in_the_making() -> None:
    begun: list[int] = []

    def each() -> Iterator[int]:
        for number in range(6):
            begun.append(number)
            yield number

    results = ahead(lambda number: number * number, each(), threads=2, most=3)

    assert begun == []
    assert (next(results), begun) == (0, [0, 1, 2])
    assert (next(results), begun) == (1, [0, 1, 2, 3])
    assert list(results) == [4, 9, 16, 25]
