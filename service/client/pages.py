"""Lists that come page by page, as one."""

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol, TypeVar

Row = TypeVar("Row")
Row_co = TypeVar("Row_co", covariant=True)

_PAGE = 50


class Page(Protocol[Row_co]):
    """What every list of the service looks like."""

    @property
    def data(self) -> Sequence[Row_co]: ...

    @property
    def has_more(self) -> bool: ...

    @property
    def next_cursor(self) -> str | None: ...


def rows(fetch: Callable[[str | None, int], Page[Row]], *, limit: int | None = None) -> Iterator[Row]:
    """Every row, fetched as it is asked for by `fetch(cursor, page size)`; `limit` ends it early."""
    cursor, left = None, limit
    while left is None or left > 0:
        page = fetch(cursor, _PAGE if left is None else min(left, _PAGE))
        yield from page.data
        if not page.has_more:
            return
        cursor, left = page.next_cursor, left and left - len(page.data)
