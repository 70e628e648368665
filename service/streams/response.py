"""The answer that a stream is written to."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

import structlog
from fastapi.sse import ServerSentEvent, format_sse_event
from starlette.responses import StreamingResponse
from starlette.types import Send

from service.errors import ServiceError

log = structlog.get_logger()

Messages = AsyncGenerator[ServerSentEvent, None]
PING_SECONDS = 15.0
PING = ServerSentEvent(comment="ping")

_RETRY_MILLISECONDS = 3000
_PATIENCE_SECONDS = 30.0
_LONGEST_SECONDS = 900.0
_HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}  # nobody on the way is to keep or collect it


class EventStream(StreamingResponse):
    """Messages as they come, one in flight at a time.

    FastAPI's own response for generators would keep a client that does not read for ever, and one whose key was revoked
    for as long as the job lasts. This one cuts both; they come back with the id they have, and the key they have.
    Messages must be closed without waiting: a client that left cancels them.
    """

    media_type = "text/event-stream"

    def __init__(
        self,
        messages: Messages,
        *,
        patience_seconds: float = _PATIENCE_SECONDS,
        longest_seconds: float = _LONGEST_SECONDS,
    ) -> None:
        super().__init__((), headers=_HEADERS)
        self._messages = messages
        self._patience_seconds = patience_seconds
        self._longest_seconds = longest_seconds

    async def stream_response(self, send: Send) -> None:
        """Send all messages, or as many as the client takes within the patience and the longest duration."""
        clock = asyncio.get_running_loop().time
        last = clock() + self._longest_seconds
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        async with aclosing(self._messages) as messages:
            try:
                await self._send(send, ServerSentEvent(retry=_RETRY_MILLISECONDS))
                async for message in messages:
                    await self._send(send, message)
                    if clock() > last:
                        break
            except (TimeoutError, ServiceError) as error:
                log.info("stream.cut", error=str(error) or "the client does not read")
                return  # without the end of the body, so that the client sees that it was cut
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _send(self, send: Send, message: ServerSentEvent) -> None:
        body = format_sse_event(
            data_str=message.raw_data,
            event=message.event,
            id=message.id,
            retry=message.retry,
            comment=message.comment,
        )
        async with asyncio.timeout(self._patience_seconds):
            await send({"type": "http.response.body", "body": body, "more_body": True})
