"""What happens to watched jobs, found out by one small question to the database per interval, however many watch."""

import asyncio
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import structlog

from service.errors import DatabaseUnavailable
from service.jobs.lookup import JobLookup
from service.jobs.records import EventRecord, JobRecord
from service.streams.shutdown import Closing

log = structlog.get_logger()

_KEPT = 256  # latest events of a job in memory, for all who watch it
_PIECE = 500  # events that one watcher reads at a time
_OUTAGE_SECONDS = 1.0


@dataclass(slots=True)
class _Watched:
    """A job that somebody watches. `recent` has no gap and ends at `latest`."""

    latest: int
    watchers: int = 0
    recent: deque[EventRecord] = field(default_factory=lambda: deque(maxlen=_KEPT))
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    def add(self, found: Sequence[EventRecord]) -> None:
        if found[0].sequence != self.latest + 1:
            self.recent.clear()  # after a rebuild of the database, older events are lost
        self.recent.extend(found)
        self.latest = found[-1].sequence
        self.wake()

    def wake(self) -> None:
        changed, self.changed = self.changed, asyncio.Event()
        changed.set()


class Feed:
    """Asks the database, since other replicas write events, too. `tick` is to be called about four times a second."""

    def __init__(self, store: JobLookup) -> None:
        self._store = store
        self._watched: dict[str, _Watched] = {}
        self.closing = Closing()
        self._is_down = False

    def close(self) -> None:
        """Let all streams end: the service does. Their clients come back to another one with the id they have."""
        self.closing.begin()
        for watched in self._watched.values():
            watched.wake()

    @contextmanager
    def watching(self, job: JobRecord) -> Iterator["Watch"]:
        """Be told of this job; `job` is what the watcher knows of it so far."""
        watched = self._watched.setdefault(job.id, _Watched(latest=job.event_sequence))
        watched.watchers += 1
        try:
            yield Watch(job_id=job.id, store=self._store, closing=self.closing, watched=watched)
        finally:
            watched.watchers -= 1
            if watched.watchers == 0:
                del self._watched[job.id]

    async def tick(self) -> bool:
        """Look for news of all watched jobs; True if there may be more at once."""
        if not self._watched:
            return False
        try:
            latest = await self._store.sequences(list(self._watched))
            more = [await self._read(job_id, number) for job_id, number in latest.items()]
        except DatabaseUnavailable as error:
            if not self._is_down:
                log.warning("streams.database_unavailable", error=error.detail)
            self._is_down = True
            return False
        self._is_down = False
        return any(more)

    async def _read(self, job_id: str, latest: int) -> bool:
        watched = self._watched.get(job_id)
        if watched is None or watched.latest >= latest:
            return False
        found = await self._store.events(job_id, after=watched.latest, limit=_KEPT)
        if found:
            watched.add(found)
        return len(found) == _KEPT


@dataclass(frozen=True, slots=True, kw_only=True)
class Watch:
    """One watcher's view of a job."""

    job_id: str
    store: JobLookup
    closing: Closing
    watched: _Watched

    @property
    def latest(self) -> int:
        """The number of the last event that is known to have happened."""
        return self.watched.latest

    async def after(self, sequence: int, *, patience_seconds: float) -> Sequence[EventRecord]:
        """The events behind this one, in order; empty if there are none within the patience, or the service ends."""
        changed = self.watched.changed
        if self.latest <= sequence:
            try:
                async with asyncio.timeout(patience_seconds):
                    await changed.wait()
            except TimeoutError:
                return ()
        if self.latest <= sequence:
            return ()
        return await self._events(sequence)

    async def _events(self, after: int) -> Sequence[EventRecord]:
        """From memory if they are there; nothing while the database does not answer."""
        recent = self.watched.recent
        if recent and recent[0].sequence <= after + 1:
            return [event for event in recent if event.sequence > after]
        try:
            return await self.store.events(self.job_id, after=after, limit=_PIECE)
        except DatabaseUnavailable:
            await self.closing.pause(_OUTAGE_SECONDS)
            return ()
