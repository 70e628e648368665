"""Parts are asked until they are ready, started again when they die, and always stopped."""

import os
import secrets
import sys
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from pathlib import Path
from subprocess import Popen

import pytest

from service.embedded import processes, supervision
from service.embedded.errors import PartFailed
from service.embedded.part import Part, Probe
from service.embedded.ports import reserved
from service.embedded.supervision import Event, PartDied, PartReady, StackReady, supervise

SERVER = """
from http.server import BaseHTTPRequestHandler, HTTPServer
class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
    def log_message(self, *_): pass
HTTPServer(("127.0.0.1", PORT), Handler).serve_forever()
"""


class Stack:
    """A supervised stack of small servers; `mark` finds its processes."""

    def __init__(self, folder: Path) -> None:
        self.mark = secrets.token_hex(8)
        self.folder = folder
        self.launched: list[str] = []
        self.children: dict[str, Popen[bytes]] = {}

    def events(self, *parts: Part, pause: Callable[[float], bool]) -> Generator[Event]:
        return supervise(parts, readiness=parts[0].probes[0], mark=self.mark, launch=self.launch, pause=pause)

    def launch(self, part: Part) -> "Popen[bytes]":
        self.launched.append(part.name)
        environment = {"PATH": os.environ["PATH"]}
        child = processes.start(
            part, environment=environment, mark=self.mark, log=self.folder / "log", folder=self.folder
        )
        self.children[part.name] = child
        return child


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Stack]:
    stack = Stack(tmp_path)
    yield stack
    assert not processes.marked(stack.mark), "nothing may be left"


def server(name: str, port: int) -> Part:
    command = (sys.executable, "-S", "-c", SERVER.replace("PORT", str(port)))
    probe = Probe(f"http://127.0.0.1:{port}/")
    return Part(name=name, title=name, address=probe.url, command=command, environment={}, probes=(probe,))


def broken(name: str) -> Part:
    command = (sys.executable, "-S", "-c", "import sys; sys.exit('no such database')")
    probe = Probe("http://127.0.0.1:1/")
    return Part(name=name, title=name, address=probe.url, command=command, environment={}, probes=(probe,))


def pausing(_: float) -> bool:
    time.sleep(0.02)
    return False


@pytest.fixture
def ports() -> Iterator[list[int]]:
    with reserved({}, last=None) as ports:
        yield list(ports.model_dump().values())[2:]


def test_each_part_is_announced_when_it_answers_and_then_the_stack(stack: Stack, ports: list[int]) -> None:
    told: list[Event] = []
    with closing(stack.events(server("a", ports[0]), server("b", ports[1]), pause=pausing)) as events:
        while not told or not isinstance(told[-1], StackReady):
            told.append(next(events))

    assert {event.part.name for event in told if isinstance(event, PartReady)} == {"a", "b"}


def test_a_part_that_dies_after_it_was_ready_is_named_and_started_again(stack: Stack, ports: list[int]) -> None:
    with closing(stack.events(server("a", ports[0]), pause=pausing)) as events:
        assert isinstance(next(events), PartReady)
        assert isinstance(next(events), StackReady)

        stack.children["a"].kill()

        died = next(events)
        assert isinstance(died, PartDied)
        assert (died.part.name, died.exit_code, died.restarts) == ("a", -9, True)
        assert isinstance(next(events), PartReady)
    assert stack.launched == ["a", "a"]


def test_a_part_that_dies_before_it_was_ready_stops_the_whole_stack(stack: Stack, ports: list[int]) -> None:
    told: list[Event] = []

    with pytest.raises(PartFailed, match="b ended with exit code 1 before it was ready"):
        told.extend(stack.events(server("a", ports[0]), broken("b"), pause=pausing))

    assert not processes.marked(stack.mark)


def test_a_part_that_never_answers_is_named_when_patience_ends(
    stack: Stack, ports: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervision, "START_SECONDS", 0.3)
    silent = Part(
        name="b",
        title="silent",
        address="",
        command=(sys.executable, "-S", "-c", "import time; time.sleep(600)"),
        environment={},
        probes=(Probe("http://127.0.0.1:1/"),),
    )

    with pytest.raises(PartFailed, match="silent not ready"):
        list(stack.events(silent, server("a", ports[0]), pause=pausing))


def test_asked_to_stop_it_stops_everything(stack: Stack, ports: list[int]) -> None:
    answers = iter([False, False, True])

    list(stack.events(server("a", ports[0]), pause=lambda _: next(answers)))

    assert not processes.marked(stack.mark)
