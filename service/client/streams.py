"""Server-sent events that go on by themselves where they were cut."""

from collections.abc import Iterator
from typing import Any

from httpx2 import EventSource, ServerSentEvent

from service.client.connection import Connection
from service.client.errors import ClientError, RequestFailed, ServiceUnreachable
from service.client.refusals import foreign
from service.client.retries import Patience
from service.streams.views import END

_MAX_MESSAGE_BYTES = 16 << 20  # a piece of a log has up to a megabyte, which JSON may make longer


def messages(
    connection: Connection, path: str, *, after: str | None = None, **params: Any
) -> Iterator[ServerSentEvent]:
    """Every message behind the id `after` until the service says `end`, which is not passed on.

    A stream that is cut, as each is from time to time, is asked for again behind the last id that came.

    Raises:
        ServiceUnreachable, RequestFailed: there is no stream to be had for a minute, or longer if the service asks
            for a pause (`Patience`).
    """
    patience = Patience(connection.timing)
    while True:
        error: ClientError = ServiceUnreachable(f"{connection.address} cuts the stream again and again", was_asked=True)
        is_open = False
        try:
            for message in _once(connection, path, after, params):
                is_open = True
                if message.event == END:
                    return
                if message.data:  # others are for the connection
                    after = message.id or after
                    patience.progressed()
                    yield message
        except (RequestFailed, ServiceUnreachable) as failure:
            error = failure
        if is_open:
            patience.was_there()
        patience.wait(error)


def _once(connection: Connection, path: str, after: str | None, params: dict[str, Any]) -> Iterator[ServerSentEvent]:
    headers = {"Accept": "text/event-stream"} | ({} if after is None else {"Last-Event-ID": after})
    with connection.streamed(path, headers=headers, **params) as response:
        if not response.headers.get("content-type", "").startswith("text/event-stream"):
            raise foreign(response, address=connection.address, now=connection.timing.now())
        yield from EventSource(response, _MAX_MESSAGE_BYTES)
