"""`cdm up`, `down`, `status` and `env`.

The stack is imported only where it is asked for: it needs more installed than this command does.
"""

import shlex
import signal
import threading
from collections.abc import Mapping
from contextlib import closing
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from service.cli.connection import stack_of
from service.cli.detached import start_detached
from service.cli.hints import command
from service.cli.options import AsJson, Home
from service.cli.output import tell, tell_line
from service.cli.text import table
from service.embedded.folder import Folder

if TYPE_CHECKING:
    from service.embedded.supervision import Event


def _port(most: int, words: str) -> Any:
    return typer.Option(min=1024, max=most, metavar="PORT", help=words)


def up(
    api_port: Annotated[int | None, _port(65535, "At first 8400 if free.")] = None,
    mlflow_port: Annotated[int | None, _port(65535, "At first 5400 if free.")] = None,
    s3_port: Annotated[int | None, _port(55535, "It and the one 10000 above.")] = None,
    ray_port: Annotated[int | None, _port(65535, "Of Ray's dashboard.")] = None,
    detach: Annotated[bool, typer.Option("--detach", "-d", help="Return when all is ready.")] = False,
    home: Home = None,
    as_json: AsJson = False,
) -> None:
    """Start the service on this machine.

    S3, MLflow, Ray and the API, on loopback, until Ctrl-C or `cdm down`. A port that is not given is the one of the
    last time, or a free one. Everything is kept in one folder.
    """
    asked = {"api": api_port, "mlflow": mlflow_port, "s3": s3_port, "ray_dashboard": ray_port}
    given = {name: value for name, value in asked.items() if value is not None}
    folder = Folder.at(home)
    if detach:
        start_detached(folder, given, as_json=as_json)
    else:
        _run(folder, given, as_json=as_json)


def down(home: Home = None, as_json: AsJson = False) -> None:
    """Stop the service of this machine.

    What it keeps stays, and a running job goes on at the next `cdm up`.
    """
    from service.embedded import stack

    folder = Folder.at(home)
    ended = stack.down(folder)
    words = "stopped" if ended else f"nothing runs from {folder.root}"
    tell({"stopped": ended}, words, as_json=as_json)


def status(home: Home = None, as_json: AsJson = False) -> None:
    """Show the parts of the service here.

    Exit code 0: all are ready, 3: not.
    """
    from service.embedded import stack

    folder = Folder.at(home)
    parts = stack.status(folder)
    rows = [
        (part.title, part.state, str(part.pid or ""), part.address, f"{part.memory_bytes / 2**20:,.0f} MiB", part.log)
        for part in parts
    ]
    words = table([("PART", "STATE", "PID", "ADDRESS", "MEMORY", "LOG"), *rows]) if rows else "no stack was started yet"
    tell({"home": str(folder.root), "parts": list(map(asdict, parts))}, words, as_json=as_json)
    if not parts or any(part.state != "ready" for part in parts):
        raise typer.Exit(3)


def env(home: Home = None, as_json: AsJson = False) -> None:
    """Print the address and the key of this stack.

    eval "$(cdm env)" sets CDM_URL and CDM_API_KEY, which curl can be given, and the SDK and this command read. The
    output holds a secret: the key.
    """
    stack = stack_of(home, instead="set CDM_URL and CDM_API_KEY to those of another service")
    variables = {"CDM_URL": stack.url, "CDM_API_KEY": stack.api_key}
    exports = "\n".join(f"export {name}={shlex.quote(value)}" for name, value in variables.items())
    tell(variables, exports, as_json=as_json)


def _run(folder: Folder, asked: Mapping[str, int], *, as_json: bool) -> None:
    from service.embedded import stack

    stopping = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: stopping.set())
    with closing(stack.up(folder, asked=asked, pause=stopping.wait)) as events:
        for event in events:
            _announce(folder, event, as_json=as_json)
    tell_line({"event": "stopped"}, "stopped", as_json=as_json)


def _announce(folder: Folder, event: "Event", *, as_json: bool) -> None:
    from service.embedded.stack import last_lines
    from service.embedded.supervision import PartDied, PartReady

    if isinstance(event, PartReady):
        document = {"event": "part_ready", "part": event.part.name, "seconds": event.seconds, "url": event.part.address}
        words = f"  {event.part.title:<14}  ready after {event.seconds:4.1f} s  {event.part.address}"
    elif isinstance(event, PartDied):
        lines = last_lines(folder, event.part)
        document = {"event": "part_died", "part": event.part.name, "exit_code": event.exit_code, "log": lines}
        what = "it is started again" if event.restarts else "the stack stops"
        quoted = "".join(f"\n    {line}" for line in lines)
        words = f"  {event.part.title} ended with exit code {event.exit_code}; {what}; its log ends:{quoted}"
    else:
        document = {"event": "ready", "seconds": event.seconds, "home": str(folder.root)}
        what_next = f"submit a job with {command('submit fashion16')}, stop with {command('down')}"
        words = f"ready after {event.seconds:.1f} s: {what_next}{_other_port(folder)}"
    tell_line(document, words, as_json=as_json)


def _other_port(folder: Folder) -> str:
    """Where the API is, if it is not where documents look for it."""
    from service.embedded.documents import Run
    from service.embedded.ports import USUAL, stand_in

    run, usual = Run.read(folder.run), USUAL["api"]
    port = stand_in(run.ports, "api") if run else None
    again = command(f"up --api-port {usual}")
    return f"\n{usual} was in use, so the API is on {port}; {again} takes that again once it is free" if port else ""
