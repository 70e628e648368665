"""A proxy of an S3 server that injects faults: it answers in its place, late, or not at all."""

import http.client
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

from tests.support.answering import answering

_OWN_HEADERS = {"connection", "transfer-encoding", "content-length"}


class S3Fault(Enum):
    """What happens to every request."""

    NONE = "answers"
    ERROR = "answers 500"
    BUSY = "answers 503"
    SLOW = "answers two seconds late"
    DISCARD = "answers 200 and keeps nothing"
    CUT = "closes the connection when half of a body has arrived"
    TRUNCATE_ONCE = "closes the connection when half of an answer is sent, once"


class Proxy(ThreadingHTTPServer):
    """Passes requests on to `upstream` as they are, signature and all, unless `fault` is another than NONE."""

    daemon_threads = True

    def __init__(self, upstream: str) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.upstream = urlsplit(upstream).netloc
        self.fault = S3Fault.NONE
        self.num_faulty = 0  # requests that met a fault

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


@contextmanager
def faulty_proxy(upstream: str) -> Iterator[Proxy]:
    proxy = Proxy(upstream)
    with answering(proxy):
        yield proxy


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Proxy

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (its name)
        """Nothing: the servers behind it log."""

    def _answer(self) -> None:
        length, fault = int(self.headers.get("Content-Length", 0)), self.server.fault
        self.server.num_faulty += fault is not S3Fault.NONE
        if fault is S3Fault.CUT:
            self.rfile.read(length // 2)
            self.close_connection = True
            return
        body = self.rfile.read(length)
        match fault:
            case S3Fault.ERROR:
                self._send(500, {}, b"")
            case S3Fault.DISCARD:
                self._send(200, {}, b"")
            case S3Fault.BUSY:
                self._send(503, {"Retry-After": "1"}, b"")
            case S3Fault.TRUNCATE_ONCE:
                self.server.fault = S3Fault.NONE
                self._pass_on(body, whole=False)
            case _:
                if fault is S3Fault.SLOW:
                    threading.Event().wait(2.0)
                self._pass_on(body)

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _answer  # noqa: N815 (names of the base class)

    def _pass_on(self, body: bytes, *, whole: bool = True) -> None:
        upstream = http.client.HTTPConnection(self.server.upstream, timeout=60)
        try:
            upstream.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
            for name, value in self.headers.items():
                upstream.putheader(name, value)
            upstream.endheaders(body)
            answer = upstream.getresponse()
            self._send(answer.status, dict(answer.getheaders()), answer.read(), whole=whole)
        except OSError:  # nobody is there: neither is this
            self.close_connection = True
        finally:
            upstream.close()

    def _send(self, status: int, headers: dict[str, str], body: bytes, *, whole: bool = True) -> None:
        self.send_response_only(status)
        length = headers.get("Content-Length", "0") if self.command == "HEAD" else str(len(body))
        for name, value in headers.items():
            if name.lower() not in _OWN_HEADERS:
                self.send_header(name, value)
        self.send_header("Content-Length", length)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body if whole else body[: len(body) // 2])
        self.close_connection |= not whole
