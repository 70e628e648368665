"""Work that is begun before its result is asked for."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

STORE_STREAMS = 8  # one stream of an S3 server is far slower than a node's network

Of = TypeVar("Of")
Result = TypeVar("Result")


def ahead(work: Callable[[Of], Result], of: Iterable[Of], *, threads: int, most: int) -> Iterator[Result]:
    """The results in the order of what they are of; at most so many are there or in the making, in so many threads.

    When this is given up, those that have not begun never do, and those that have are waited for.
    """
    pool = ThreadPoolExecutor(threads)
    waiting: deque[Future[Result]] = deque()
    try:
        for one in of:
            waiting.append(pool.submit(work, one))
            if len(waiting) == most:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
