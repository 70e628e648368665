"""A small server of the web that answers as it is told to."""

import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from tests.support.answering import answering

CONTENT = bytes(range(256)) * 40

Answer = Callable[["Handler"], None]


@dataclass
class Site:
    """Answers each path as it is told to, and remembers what it was asked."""

    port: int = 0
    answers: dict[str, Answer] = field(default_factory=dict)
    asked: list[tuple[str, str, str | None]] = field(default_factory=list)  # host, path, range

    def url(self, path: str, *, host: str = "site.test") -> str:
        return f"http://{host}:{self.port}{path}"


class Handler(BaseHTTPRequestHandler):
    site: Site
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.site.asked.append((str(self.headers["Host"]), self.path, self.headers["Range"]))
        self.site.answers.get(self.path.partition("?")[0], lambda each: each.answer(404, Content_Length="0"))(self)
        self.close_connection = True

    def answer(self, status: int, content: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: Any) -> None: ...


@contextmanager
def a_site(*, certificate: Path | None = None) -> Iterator[Site]:
    """Over TLS, with a certificate and its key."""
    site = Site()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (Handler,), {"site": site}))
    if certificate:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    site.port = server.server_port
    with answering(server):
        yield site


def whole(content: bytes = CONTENT, **headers: str) -> Answer:
    return lambda handler: handler.answer(200, content, Content_Length=str(len(content)), **headers)


def redirect(location: str, status: int = 302) -> Answer:
    return lambda handler: handler.answer(status, Location=location, Content_Length="0")
