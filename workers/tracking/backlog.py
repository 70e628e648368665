"""What waits for a receiver, bounded in bytes. Not safe between threads."""

from collections import deque
from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

T = TypeVar("T")
Item = TypeVar("Item", contravariant=True)
Batch = TypeVar("Batch", covariant=True)

MAX_BYTES = 256 << 20  # 80,000 rows of twenty values: eleven hours at two a second
_BATCH_ITEMS = 500
_BATCH_BYTES = 4 << 20


class Backlog(Protocol[Item, Batch]):
    """First in, first out; when it is full, the oldest go."""

    def __len__(self) -> int: ...

    @property
    def has_batch(self) -> bool:
        """Whether there is enough for a delivery that need not wait for more."""

    def put(self, item: Item) -> int:
        """Add an item behind all others; return how many had to go for it."""

    def take(self) -> Batch:
        """Remove the first of it, at least one item if there is any."""


class ItemBacklog(Generic[T]):
    """Items as they are: encoding them would cost the time of whoever has something to say."""

    def __init__(self, num_bytes: Callable[[T], int], *, max_bytes: int = MAX_BYTES) -> None:
        """`num_bytes` says about what an item takes in memory."""
        self._num_bytes, self._max_bytes = num_bytes, max_bytes
        self._items: deque[tuple[T, int]] = deque()
        self._total = 0

    def __len__(self) -> int:
        return len(self._items)

    @property
    def has_batch(self) -> bool:
        return len(self._items) >= _BATCH_ITEMS or self._total >= _BATCH_BYTES

    def put(self, item: T) -> int:
        """The newest is kept, however large it is."""
        size = self._num_bytes(item)
        self._items.append((item, size))
        self._total += size
        dropped = 0
        while self._total > self._max_bytes and len(self._items) > 1:
            self._pop()
            dropped += 1
        return dropped

    def take(self) -> list[T]:
        """Up to 500 items or 4 MiB of them."""
        items: list[T] = []
        rest = self._total - _BATCH_BYTES
        while self._items and len(items) < _BATCH_ITEMS and self._total > rest:
            items.append(self._pop())
        return items

    def _pop(self) -> T:
        item, size = self._items.popleft()
        self._total -= size
        return item
