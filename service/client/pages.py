"""Lists that come page by page, as one."""

from collections.abc import Iterator
from typing import Any, TypeVar

from service.client.connection import Connection
from service.web.views import PageOf

Row = TypeVar("Row")

_PAGE = 50


def rows(
    connection: Connection, kind: type[PageOf[Row]], path: str, /, *, limit: int | None, **filters: Any
) -> Iterator[Row]:
    """Every row of the list there, fetched as it is asked for; `limit` ends it early."""
    cursor, left = None, limit
    while left is None or left > 0:
        size = _PAGE if left is None else min(left, _PAGE)
        page = connection.get(kind, path, **filters, cursor=cursor, limit=size)
        yield from page.data
        if not page.has_more:
            return
        cursor, left = page.next_cursor, left and left - len(page.data)
