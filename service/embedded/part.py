"""What the supervisor knows of a part: how it is started, and how it is asked whether it is ready."""

import signal
import sysconfig
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

LOOPBACK = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class Probe:
    """A request that a server answers with 200 once it is ready."""

    url: str
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Part:
    """One server of the stack. `orphaned` is the signal it gets when its supervisor is killed."""

    name: str
    title: str
    address: str
    command: tuple[str, ...]
    environment: Mapping[str, str]
    probes: tuple[Probe, ...]
    orphaned: signal.Signals = signal.SIGKILL


def program(name: str) -> str:
    """A program that was installed beside this one."""
    return str(Path(sysconfig.get_path("scripts")) / name)


def url(port: int) -> str:
    return f"http://{LOOPBACK}:{port}"
