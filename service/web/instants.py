"""Moments in time as clients write them."""

from datetime import UTC, datetime
from typing import Annotated, Any

from pydantic import AwareDatetime, Strict
from pydantic.functional_validators import AfterValidator, BeforeValidator
from pydantic_core import PydanticCustomError


def _written_out(value: Any) -> Any:
    """Pydantic would read "0.5" and 5 as seconds since 1970, and a mere date as midnight."""
    if isinstance(value, datetime) or (isinstance(value, str) and ":" in value):
        return value
    raise PydanticCustomError("datetime_parsing", "write it as RFC 3339 has it: 2026-11-01T12:00:00Z")


def _in_utc(value: datetime) -> datetime:
    if not _FIRST <= value <= _LAST:
        raise PydanticCustomError("datetime_range", "must be between the years 1970 and 9998 in UTC")
    return value.astimezone(UTC)


_FIRST, _LAST = datetime(1970, 1, 1, tzinfo=UTC), datetime(9999, 1, 1, tzinfo=UTC)
InstantField = Annotated[AwareDatetime, Strict(False), BeforeValidator(_written_out), AfterValidator(_in_utc)]
