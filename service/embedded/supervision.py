"""Starts the parts side by side, asks each until it is ready, starts again one that dies, and stops them all."""

import subprocess
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass

import httpx2

from service.embedded import processes
from service.embedded.errors import PartFailed
from service.embedded.part import Part, Probe

START_SECONDS = 180.0
_PAUSE_SECONDS = 0.1
_TIMEOUT_SECONDS = 6.0  # /readyz itself waits up to five
_STOP_SECONDS = 10.0  # SeaweedFS was once seen to need nine


@dataclass(frozen=True, slots=True)
class PartReady:
    """A part answers."""

    part: Part
    seconds: float


@dataclass(frozen=True, slots=True)
class PartDied:
    """A part ended by itself. It is started again if it had been ready; otherwise the stack stops."""

    part: Part
    exit_code: int
    restarts: bool


@dataclass(frozen=True, slots=True)
class StackReady:
    """All parts answer, and the API reaches the others."""

    seconds: float


Event = PartReady | PartDied | StackReady


@dataclass(slots=True)
class _Child:
    part: Part
    process: subprocess.Popen[bytes]
    started_at: float
    is_ready: bool = False


def supervise(
    parts: Sequence[Part],
    *,
    readiness: Probe,
    mark: str,
    launch: Callable[[Part], subprocess.Popen[bytes]],
    pause: Callable[[float], bool],
) -> Generator[Event]:
    """Run the parts until `pause(seconds)` answers that it is enough. Whatever happens, nothing is left running.

    Raises:
        PartFailed: if a part cannot be brought up.
    """
    begun_at = time.monotonic()
    is_ready = False
    children: list[_Child] = []
    try:
        children += (_Child(part, launch(part), begun_at) for part in parts)
        with httpx2.Client(trust_env=False, timeout=_TIMEOUT_SECONDS) as http:
            while not pause(_PAUSE_SECONDS):
                for child in children:
                    yield from _look_after(child, launch, http)
                if not is_ready and all(child.is_ready for child in children) and _answers(http, readiness):
                    is_ready = True
                    yield StackReady(time.monotonic() - begun_at)
                if not is_ready and time.monotonic() - begun_at > START_SECONDS:
                    raise PartFailed(f"{_waiting_for(children)} not ready after {START_SECONDS:.0f} s: see the logs")
    finally:
        processes.stop((child.process for child in children), mark=mark, grace_seconds=_STOP_SECONDS)


def _look_after(
    child: _Child, launch: Callable[[Part], subprocess.Popen[bytes]], http: httpx2.Client
) -> Iterator[Event]:
    exit_code = child.process.poll()
    if exit_code is not None:
        yield PartDied(child.part, exit_code, restarts=child.is_ready)
        if not child.is_ready:
            raise PartFailed(f"{child.part.title} ended with exit code {exit_code} before it was ready: see its log")
        child.process, child.started_at, child.is_ready = launch(child.part), time.monotonic(), False
    elif not child.is_ready and all(_answers(http, probe) for probe in child.part.probes):
        child.is_ready = True
        yield PartReady(child.part, time.monotonic() - child.started_at)


def answers(probe: Probe) -> bool:
    """Whether a server is ready now."""
    with httpx2.Client(trust_env=False, timeout=_TIMEOUT_SECONDS) as http:
        return _answers(http, probe)


def _answers(http: httpx2.Client, probe: Probe) -> bool:
    try:
        return http.get(probe.url, headers=probe.headers).status_code == 200
    except httpx2.TransportError:
        return False


def _waiting_for(children: Sequence[_Child]) -> str:
    names = [child.part.title for child in children if not child.is_ready]
    return " and ".join(names) or "the API's /readyz"
