"""An MLflow that asks who comes is told so by everything in the service that asks it."""

import base64
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any, ClassVar

import pytest

from service.clock import utc_now
from service.parts import open_parts
from tests.support.plane import settings_in

PAIR = base64.b64encode("cdm:päss:word".encode()).decode()


class Tracker(BaseHTTPRequestHandler):
    """Answers everybody, and remembers what they showed."""

    shown: ClassVar[list[str | None]] = []

    def do_GET(self) -> None:
        self.shown.append(self.headers["Authorization"])
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b'{"run": {"info": {"run_id": "run", "experiment_id": "7"}}}')

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (the base class's name)
        pass


@pytest.fixture
def address(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setattr(Tracker, "shown", [])
    with ThreadingHTTPServer(("127.0.0.1", 0), Tracker) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.mark.parametrize(
    ("login", "shown"),
    [
        ({}, None),
        ({"mlflow_token": "a-token"}, "Bearer a-token"),
        ({"mlflow_username": "cdm", "mlflow_password": "päss:word"}, f"Basic {PAIR}"),
    ],
)
async def test_every_request_has_the_login(
    login: dict[str, Any], shown: str | None, address: str, tmp_path: Path
) -> None:
    async with open_parts(settings_in(tmp_path, mlflow_url=address, **login), clock=utc_now) as parts:
        await parts.mlflow.ping()
        await parts.mlflow.latest("run")

    assert Tracker.shown == [shown, shown]
