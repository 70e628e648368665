"""Streams of jobs on a real server, and a client that reads them as they come over the wire."""

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

import httpx2
from fastapi import FastAPI
from starlette.types import ASGIApp, Receive, Scope, Send

from service.clock import utc_now
from service.cluster import MemoryCluster
from service.database import Database
from service.identifiers import new_id
from service.jobs.job_results import JobResults
from service.jobs.lifecycle import JobState
from service.jobs.loop import Loop
from service.jobs.objects import JobObjects
from service.jobs.records import JobRecord, ended, new_attempt
from service.jobs.store import JobStore
from service.streams.feed import Feed
from service.streams.routes import router
from service.streams.shutdown import on_termination
from service.streams.usecases import Streams
from service.web.principal import Principal
from service.web.problems import install_problems
from service.web.requests import RequestMiddleware
from service.web.views import Scope as Permission
from tests.support.serving import serving_here
from workers.contract.keys import JobKeys
from workers.contract.presets import PRESETS
from workers.storage.memory import MemoryStore

_UNLIMITED = httpx2.Limits(max_connections=None)


@dataclass(frozen=True, slots=True)
class Message:
    """One message of a stream. Comments have nothing but a `comment`."""

    event: str | None = None
    id: str | None = None
    data: Any = None
    comment: str | None = None


@dataclass
class Watched:
    """A served application, and what it works on."""

    api: httpx2.AsyncClient
    jobs: JobStore
    streams: Streams
    objects: MemoryStore
    serving: asyncio.Task[None]

    async def job(self, **fields: Any) -> JobRecord:
        """A new one, in the queue."""
        spec, now = PRESETS["smoke"].model_dump_json(), utc_now()
        job = JobRecord(
            id=new_id("job", at=now),
            spec=spec,
            spec_sha256="",
            state=JobState.QUEUED,
            created_at=now,
            queued_at=now,
            **fields,
        )
        await self.jobs.create(job)
        return replace(job, event_sequence=1)

    async def moved(self, job: JobRecord, state: JobState, *, store: JobStore | None = None) -> JobRecord:
        written = await (store or self.jobs).apply(
            job, replace(job, state=state), events=["state_changed"], at=utc_now()
        )
        assert written
        return written

    async def begun(self, job: JobRecord, *, skipped: int = 0) -> JobRecord:
        """The job with its next attempt, behind so many numbers that nobody got."""
        attempt = new_attempt(job.id, job.attempt + 1 + skipped, service="here", at=utc_now())
        changed = replace(job, state=JobState.RUNNING, attempt=attempt.number)
        written = await self.jobs.apply(job, changed, events=["attempt_started"], at=utc_now(), attempt=attempt)
        assert written
        return written

    async def over(self, job: JobRecord, state: JobState) -> JobRecord:
        """The job after its attempt, whose log is all there."""
        attempt = await self.jobs.attempt(job.id, job.attempt)
        assert attempt
        last = replace(ended(attempt, at=utc_now(), reason=None, message=None), log_due_until=None)
        written = await self.jobs.apply(
            job, replace(job, state=state), events=["state_changed"], at=utc_now(), attempt=last
        )
        assert written
        return written

    def printed(self, job: JobRecord, start: int, data: bytes, *, source: str = "driver") -> int:
        """Another chunk of the log; the place behind it."""
        self.objects.put(JobKeys(job.id).attempt(job.attempt).log_chunk(source, start), data)
        return start + len(data)

    def measured(self, job: JobRecord, chunk: int, images_seen: list[int]) -> None:
        """Another chunk of metric rows."""
        rows = "".join(json.dumps({"images_seen": one, "time": 1.8e9, "loss/dsm": 0.5}) + "\n" for one in images_seen)
        self.objects.put(JobKeys(job.id).attempt(job.attempt).metrics_chunk(chunk), rows.encode())

    async def messages(self, path: str, *, last_id: str | None = None, **params: Any) -> AsyncGenerator[Message]:
        """Those of one connection, which is dropped where the reader stops."""
        headers = {"Last-Event-ID": last_id} if last_id is not None else {}
        async with self.api.stream("GET", path, headers=headers, params=params) as response:
            assert response.status_code == 200, await response.aread()
            assert response.headers["Content-Type"] == "text/event-stream; charset=utf-8"
            fields: dict[str, str] = {}
            async for line in response.aiter_lines():
                name, _, value = line.partition(":")
                if line:
                    fields[name or "comment"] = value.removeprefix(" ")
                elif set(fields) != {"retry"}:
                    yield _message(fields)
                if not line:
                    fields = {}

    async def first(self, path: str, *, last_id: str | None = None, **params: Any) -> Message:
        """The next message; then the connection is dropped."""
        found = self.messages(path, last_id=last_id, **params)
        try:
            async with asyncio.timeout(20):
                return await anext(found)
        finally:
            await found.aclose()

    async def all(self, path: str, **params: Any) -> list[Message]:
        """Everything up to the end of a stream that is not cut."""
        async with asyncio.timeout(60):
            return [message async for message in self.messages(path, **params)]


def _message(fields: dict[str, str]) -> Message:
    data = json.loads(fields["data"]) if "data" in fields else None
    return Message(event=fields.get("event"), id=fields.get("id"), data=data, comment=fields.get("comment"))


class _Everyone:
    """Lets everybody in."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            scope["state"]["principal"] = Principal(id="me", project="default", scopes=frozenset(Permission))
        await self._app(scope, receive, send)


@asynccontextmanager
async def watched(database: Database, *, store: JobStore | None = None, **changes: Any) -> AsyncIterator[Watched]:
    """Serve streams over real sockets until the block ends. `changes` are fields of `Streams`."""
    jobs, objects = store or JobStore(database), MemoryStore()

    async def idle(_: object) -> int:
        return 0

    results = JobResults(store=jobs, objects=JobObjects(objects, url="memory://"), cluster=MemoryCluster(idle))
    feed = Feed(jobs)
    streams = Streams(
        jobs=jobs, results=results, feed=feed, object_store=objects, mlflow_url="http://mlflow", **changes
    )

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[dict[str, Any]]:
        async with Loop("feed", feed.tick, interval_seconds=0.05).running():
            with on_termination(feed.close):
                yield {"job_lookup": jobs, "streams": streams}

    app = FastAPI(lifespan=lifespan)
    install_problems(app)
    app.include_router(router)
    app.add_middleware(_Everyone)
    app.add_middleware(RequestMiddleware)
    async with serving_here(app) as opened:
        try:
            async with httpx2.AsyncClient(base_url=opened.url, timeout=30, limits=_UNLIMITED) as api:
                yield Watched(api, jobs, streams, objects, opened.task)
        finally:
            feed.close()


async def cut_after_each(
    live: Watched, path: str, *, had: asyncio.Semaphore | None = None, **params: Any
) -> list[Message]:
    """Drop the connection after every single message, and come back with its id, until the end.

    `had` is released with each, for whoever goes on only then.
    """
    seen: list[Message] = []
    last_id = None
    while not seen or seen[-1].event != "end":
        message = await live.first(path, last_id=last_id, **params)
        seen.append(message)
        last_id = message.id or last_id
        if had:
            had.release()
    return seen
