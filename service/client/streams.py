"""Server-sent events that go on by themselves where they were cut."""

from collections.abc import Iterator
from typing import Any

from httpx2 import EventSource, ServerSentEvent

from service.client.connection import Connection
from service.client.errors import ClientError, RequestFailed, ServiceUnreachable
from service.client.refusals import foreign
from service.client.retries import Repeat, may_pass
from service.streams.views import END

_PATIENCE_SECONDS = 60.0  # the service may be started anew
_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 0.25, 5.0
_MAX_MESSAGE_BYTES = 16 << 20  # a piece of a log has up to a megabyte, which JSON may make longer


def messages(
    connection: Connection, path: str, *, after: str | None = None, **params: Any
) -> Iterator[ServerSentEvent]:
    """Every message behind the id `after` until the service says `end`, which is not passed on.

    A stream that is cut, as each is from time to time, is asked for again behind the last id that came.

    Raises:
        ServiceUnreachable: if there is no stream to be had for a minute.
    """
    timing = connection.timing
    last_open_at, pause = timing.monotonic(), _FIRST_PAUSE_SECONDS
    while True:
        error: ClientError = ServiceUnreachable(f"{connection.address} cuts the stream again and again", was_asked=True)
        is_open = False
        try:
            for message in _once(connection, path, after, params):
                is_open = True
                if message.event == END:
                    return
                if message.data:  # others are for the connection
                    after, pause = message.id or after, _FIRST_PAUSE_SECONDS
                    yield message
        except (RequestFailed, ServiceUnreachable) as failure:
            error = failure
        last_open_at = timing.monotonic() if is_open else last_open_at
        if not may_pass(error, Repeat.FREELY) or timing.monotonic() - last_open_at > _PATIENCE_SECONDS:
            raise error
        asked = error.retry_after if isinstance(error, RequestFailed) else None
        timing.sleep(pause * (1 + timing.jitter()) / 2 if asked is None else asked)
        pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)


def _once(connection: Connection, path: str, after: str | None, params: dict[str, Any]) -> Iterator[ServerSentEvent]:
    headers = {"Accept": "text/event-stream"} | ({} if after is None else {"Last-Event-ID": after})
    with connection.streamed(path, headers=headers, **params) as response:
        if not response.headers.get("content-type", "").startswith("text/event-stream"):
            raise foreign(response, address=connection.address, now=connection.timing.now())
        yield from EventSource(response, _MAX_MESSAGE_BYTES)
