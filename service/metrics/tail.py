"""Metric rows as workers write them, in order, from attempt to attempt.

Workers write chunks 0, 1, 2 ... of an attempt one after the other, so the next one is asked for by its name: listing
would take longer with every chunk there is. The last chunk may be written again with more rows, when the answer to the
first writing was lost; hence a chunk is read once more when there is one behind it.
"""

import asyncio
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import takewhile

import structlog

from service.metrics.views import MetricRow
from service.mlflow import finite
from service.storage import get_or_none
from workers.contract.keys import JobKeys
from workers.contract.metric_rows import MeasuredRow, rows_of
from workers.storage import ObjectStore

log = structlog.get_logger()

_CURSOR = re.compile(r"([0-9]{1,9}):([0-9]{1,9}):([0-9]{1,9})", re.ASCII)
_MOST_AT_A_TIME = 16  # chunks


@dataclass(frozen=True, slots=True)
class Cursor:
    """A row: its attempt, its chunk in that, and its line in that. The latter two count from 0."""

    attempt: int
    chunk: int
    row: int

    def __str__(self) -> str:
        return f"{self.attempt}:{self.chunk}:{self.row}"

    @classmethod
    def parsed(cls, text: str) -> "Cursor | None":
        found = _CURSOR.fullmatch(text)
        return cls(*map(int, found.groups())) if found else None


BEFORE_ALL = Cursor(0, 0, 0)  # there is no attempt 0


@dataclass(frozen=True, slots=True)
class Row:
    """A metric row and where it stands."""

    cursor: Cursor
    content: MetricRow


class Tail:
    """A place in the rows of a job, which moves on with every look."""

    def __init__(self, object_store: ObjectStore, job_id: str, after: Cursor) -> None:
        self._object_store = object_store
        self._keys = JobKeys(job_id)
        self._attempt = after.attempt
        self._chunk = after.chunk
        self._num_read = after.row + 1  # rows of this chunk
        self._width = 1  # chunks to look for at a time: more while they are found

    async def look(self, latest_attempt: int) -> tuple[Row, ...]:
        """Some of the rows that follow; none only if there are none yet in any attempt up to the latest.

        Raises:
            StorageUnavailable
        """
        while True:
            before = (self._chunk, self._num_read)
            if rows := await self._read():
                return tuple(rows)
            if (self._chunk, self._num_read) != before:
                continue  # rows that cannot be read
            if self._attempt >= latest_attempt:
                return ()
            self._attempt, self._chunk, self._num_read = self._attempt + 1, 0, 0  # one with a successor is over

    async def _read(self) -> list[Row]:
        numbers = range(self._chunk + 1, self._chunk + 1 + self._width)
        behind = list(takewhile(lambda chunk: chunk is not None, await asyncio.gather(*map(self._get, numbers))))
        self._width = min(2 * self._width, _MOST_AT_A_TIME) if len(behind) == self._width else 1
        rows = self._new(await self._get(self._chunk))  # only now: if there is one behind it, it is complete
        for chunk in behind:
            self._chunk, self._num_read = self._chunk + 1, 0
            rows += self._new(chunk)
        return rows

    def _new(self, chunk: bytes | None) -> list[Row]:
        """The rows of the present chunk that have not been read."""
        found, first = rows_of(chunk or b"", first=self._num_read), self._num_read
        self._num_read += len(found)
        rows = (self._row(Cursor(self._attempt, self._chunk, line), row) for line, row in enumerate(found, first))
        return [row for row in rows if row]

    def _row(self, place: Cursor, found: MeasuredRow | None) -> Row | None:
        if found is None:
            log.warning("metrics.row_unreadable", job_id=self._keys.job_id, row=str(place))
            return None
        content = MetricRow(
            attempt=place.attempt,
            images_seen=found.images_seen,
            time=datetime.fromtimestamp(found.time, UTC),
            values={key: finite(value) for key, value in found.values.items()},
        )
        return Row(place, content)

    async def _get(self, number: int) -> bytes | None:
        return await get_or_none(self._object_store, self._keys.attempt(self._attempt).metrics_chunk(number))
