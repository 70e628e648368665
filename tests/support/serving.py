"""An application behind a real socket, which is bound before it is handed over: nobody else can take its port."""

import asyncio
import socket
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass

import uvicorn
from fastapi import FastAPI

from tests.support.plane import eventually
from tests.support.waiting import wait_until


@dataclass(frozen=True, slots=True)
class Serving:
    """An application that this event loop serves; `task` is done when it has ended."""

    url: str
    task: asyncio.Task[None]


@contextmanager
def serving(app: FastAPI) -> Iterator[str]:
    """Serve it from a thread until the block ends, however that does; gives its URL."""
    with _listening() as listener:
        server = _server(app)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        url = _url(listener)
        thread.start()
        try:
            wait_until(lambda: server.started or not thread.is_alive())
            assert server.started, "it ended before it served"
            yield url
        finally:
            server.should_exit = True
            thread.join()


@asynccontextmanager
async def serving_here(app: FastAPI) -> AsyncIterator[Serving]:
    """Serve it from this event loop until the block ends."""
    with _listening() as listener:
        server = _server(app)
        url, task = _url(listener), asyncio.create_task(server.serve(sockets=[listener]))

        async def started() -> bool:
            return server.started or task.done()

        try:
            await eventually(started, what="the server has started")
            assert server.started, "it ended before it served"
            yield Serving(url, task)
        finally:
            server.should_exit = True
            await task


@contextmanager
def _listening() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener


def _server(app: FastAPI) -> uvicorn.Server:
    return uvicorn.Server(uvicorn.Config(app, log_config=None, log_level="warning"))


def _url(listener: socket.socket) -> str:
    return f"http://127.0.0.1:{listener.getsockname()[1]}"
