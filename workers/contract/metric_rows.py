"""Rows of metrics: lines of JSON, each with `images_seen`, `time`, and a number under the name of each curve."""

from dataclasses import dataclass
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

_LAST_SECOND = 253_402_300_799  # of the year 9999


@dataclass(frozen=True, slots=True)
class MeasuredRow:
    """What was measured at a point of training, and when (Unix seconds). A value may be NaN or infinite."""

    images_seen: int
    time: float
    values: dict[str, float]


def rows_of(chunk: bytes, *, first: int = 0) -> list[MeasuredRow | None]:
    """The rows of a chunk from this line on (0 = all), one for each; None in the place of one that cannot be read."""
    return [_row_of(line) for line in chunk.splitlines()[first:]]


def _row_of(line: bytes) -> MeasuredRow | None:
    try:
        found = _Line.model_validate_json(line)
    except ValidationError:
        return None
    return MeasuredRow(found.images_seen, found.time, dict(found.__pydantic_extra__))


class _Line(BaseModel):
    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, float]

    images_seen: int
    time: Annotated[float, Field(ge=0, le=_LAST_SECOND)]
