"""How the store and Ray are reached: connections are kept for the next look, and given up when nothing comes."""

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from service.cluster.ray_http import RayHttp
from workers.storage import open_store

SIDE_BY_SIDE = 32


class Server(ThreadingHTTPServer):
    """Answers when as many requests are there as are made side by side; the first `silent` connections never."""

    request_queue_size = 128
    daemon_threads = True

    def __init__(self, *, side_by_side: int, silent: int = 0) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.together = threading.Barrier(side_by_side)
        self.silent = silent
        self.connections = 0
        self.is_over = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def process_request(self, request: Any, client_address: Any) -> None:
        self.connections += 1
        super().process_request(request, client_address)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def setup(self) -> None:
        self.number = self.server.connections
        super().setup()

    def do_GET(self) -> None:
        if self.number <= self.server.silent:
            self.server.is_over.wait()
            return
        self.server.together.wait()
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def serving(**how: int) -> Iterator[Server]:
    with Server(**how) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        try:
            yield server
        finally:
            server.is_over.set()
            server.shutdown()


@pytest.fixture
def credentials(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "secret")
    return monkeypatch


def test_the_connections_of_all_threads_are_kept_for_the_next_look(credentials: pytest.MonkeyPatch) -> None:
    with serving(side_by_side=SIDE_BY_SIDE) as server, ThreadPoolExecutor(SIDE_BY_SIDE) as threads:
        credentials.setenv("AWS_ENDPOINT_URL_S3", server.url)
        store = open_store("s3://bucket")
        for _ in range(3):
            assert set(threads.map(store.get, map(str, range(SIDE_BY_SIDE)))) == {b"{}"}

        assert server.connections == SIDE_BY_SIDE


def test_a_connection_on_which_nothing_comes_is_given_up_for_another(credentials: pytest.MonkeyPatch) -> None:
    with serving(side_by_side=1, silent=1) as server:
        credentials.setenv("AWS_ENDPOINT_URL_S3", server.url)

        assert open_store("s3://bucket", read_timeout_seconds=0.1).get("key") == b"{}"

        assert server.connections == 2


async def test_the_connections_to_ray_are_kept_for_the_next_look() -> None:
    with serving(side_by_side=100) as server:
        ray = RayHttp(server.url, token=None, timeout_seconds=30.0)
        for _ in range(3):
            answers = await asyncio.gather(*(ray.request("GET", f"/api/jobs/{number}") for number in range(100)))
            assert {answer.body for answer in answers} == {b"{}"}
        await ray.close()

        assert server.connections == 100
