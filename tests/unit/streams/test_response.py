"""The answer that a stream is written to: what it does with clients that leave, sleep, or stay too long."""

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

import pytest
from fastapi.sse import ServerSentEvent
from starlette.types import Message, Scope

from service.errors import DatabaseUnavailable
from service.streams.response import EventStream

SCOPE: Scope = {"type": "http", "asgi": {"spec_version": "2.3"}}


class Source:
    """Endless messages, and whether they were closed."""

    def __init__(self, *, error: Exception | None = None, waits: bool = False) -> None:
        self.closed = False
        self._error = error
        self._waits = waits

    async def __call__(self) -> AsyncGenerator[ServerSentEvent, None]:
        try:
            number = 0
            while True:
                number += 1
                yield ServerSentEvent(event="n", raw_data="{}", id=str(number))
                if self._error:
                    raise self._error
                await (asyncio.Event().wait() if self._waits else asyncio.sleep(0))
        finally:
            self.closed = True


class Client:
    """Takes so many messages, and then leaves, or reads no more."""

    def __init__(self, *, takes: int, leaves: bool) -> None:
        self.got: list[Message] = []
        self._takes = takes
        self._leaves = leaves
        self._gone = asyncio.Event()

    async def receive(self) -> Message:
        await self._gone.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        self.got.append(message)
        if len(self.got) == self._takes and self._leaves:
            self._gone.set()
        if len(self.got) >= self._takes and not self._leaves:
            await asyncio.Event().wait()

    @property
    def saw_the_end(self) -> bool:
        return self.got[-1].get("more_body") is False


async def serve(source: Source, client: Client, **limits: Any) -> None:
    async with asyncio.timeout(10):
        await EventStream(source(), **limits)(SCOPE, client.receive, client.send)


@pytest.mark.parametrize("waits", [True, False])
async def test_a_client_that_leaves_ends_its_messages_at_once(waits: bool) -> None:
    source, client = Source(waits=waits), Client(takes=3, leaves=True)

    await serve(source, client)

    assert source.closed


async def test_a_client_that_does_not_read_is_cut_and_sees_that_it_was() -> None:
    source, client = Source(), Client(takes=4, leaves=False)

    await serve(source, client, patience_seconds=0.01)

    assert source.closed
    assert len(client.got) == 4
    assert not client.saw_the_end


async def test_no_stream_outlives_the_longest_duration() -> None:
    source, client = Source(), Client(takes=10**9, leaves=True)

    await serve(source, client, longest_seconds=0.01)

    assert source.closed
    assert client.saw_the_end


async def test_what_fails_in_the_middle_cuts_the_stream() -> None:
    source, client = Source(error=DatabaseUnavailable("gone")), Client(takes=10, leaves=True)

    await serve(source, client)

    assert [message.get("body", b"")[:8] for message in client.got] == [b"", b"retry: 3", b"event: n"]
    assert not client.saw_the_end
