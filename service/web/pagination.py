"""Pages of lists that are read by the id they ended at, so that nothing is shown twice or left out while rows come."""

import base64
import binascii
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Generic, TypeVar

from fastapi import Query

from service.errors import InvalidRequest
from service.web.views import PageOf
from workers.contract.document import Problem

Row = TypeVar("Row")
Shown = TypeVar("Shown", bound=PageOf[Any])

CursorParameter = Annotated[str | None, Query(max_length=500, description="next_cursor of the page before")]
LimitParameter = Annotated[int, Query(ge=1, le=200)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Page(Generic[Row]):
    """Some rows of a list, and where the next ones begin; None at its end."""

    rows: tuple[Row, ...]
    next_cursor: str | None

    @property
    def has_more(self) -> bool:
        return self.next_cursor is not None

    def shown(self, kind: type[Shown], data: Iterable[Any]) -> Shown:
        """As clients see it; `data` are its rows as they do."""
        return kind(data=tuple(data), has_more=self.has_more, next_cursor=self.next_cursor)


def page_of(found: Sequence[Row], *, limit: int, kind: str, key: Callable[[Row], str]) -> Page[Row]:
    """Cut a page from rows that were asked for with `limit + 1`."""
    shown = tuple(found[:limit])
    return Page(rows=shown, next_cursor=write_cursor(kind, key(shown[-1])) if len(found) > limit else None)


def write_cursor(kind: str, last: str) -> str:
    """An opaque text for "after this one in a list of that kind"."""
    return base64.urlsafe_b64encode(f"{kind}:{last}".encode()).decode().rstrip("=")


def read_cursor(cursor: str | None, *, kind: str) -> str | None:
    """What the page before ended at; None = from the start.

    Raises:
        InvalidRequest: if it did not come from a list of that kind.
    """
    if cursor is None:
        return None
    try:
        found, _, last = (
            base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True).decode().partition(":")
        )
    except (binascii.Error, ValueError):
        found, last = "", ""
    if found != kind or not last or write_cursor(kind, last) != cursor or not last.isprintable():
        wrong = Problem("/query/cursor", "invalid_cursor", "give next_cursor of the page before, unchanged")
        raise InvalidRequest("the cursor is not one of this list", problems=[wrong])
    return last
