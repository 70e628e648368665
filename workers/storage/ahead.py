"""Work that is begun before its result is asked for."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from workers.storage.base import ObjectStore

STORE_STREAMS = 8  # one stream of an S3 server is far slower than a node's network
_PIECE_BYTES = 8 << 20

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


def pieces(store: ObjectStore, key: str, num_bytes: int) -> Iterator[bytes]:
    """An object of so many bytes, piece by piece in their order, several of them on their way at a time.

    Raises:
        FileNotFoundError: there is no such object.
        PermissionError: it is nobody's business here.
    """
    offsets = range(0, num_bytes, _PIECE_BYTES)
    return ahead(
        lambda offset: store.part(key, offset, _PIECE_BYTES), offsets, threads=STORE_STREAMS, most=STORE_STREAMS
    )
