"""Which ports the parts get: the ones asked for, else those of the last run, else the usual ones, else free ones."""

import random
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager

from service.embedded.documents import Ports
from service.embedded.errors import PortInUse

USUAL = {"api": 8400, "mlflow": 5400}

_WITH_GRPC = frozenset({"s3", "s3_master", "s3_volume", "s3_filer", "s3_admin"})
_GRPC_OFFSET = 10_000  # SeaweedFS's own rule
# Above the ports of Ray's workers (10002 to 19999); with the offset, still below those that Linux gives to clients
# (from 32768), so that nobody takes one between our looking and the server's start.
_RANGE = range(20_000, 22_700)


@contextmanager
def reserved(asked: Mapping[str, int], *, last: Ports | None) -> Iterator[Ports]:
    """A port for every server, which no other stack of this machine is given meanwhile. `asked` is by field of `Ports`.

    Between our looking and the servers' start seconds pass, in which another stack would find the same ports free, and
    each would take the other's servers for its own. So a port is claimed by an abstract Unix socket of its name, which
    all users of the machine see, and which goes with this process, however that ends.

    Raises:
        PortInUse: if one that was asked for cannot be had.
    """
    with ExitStack() as claims:

        def claim(port: int) -> bool:
            name = socket.socket(socket.AF_UNIX)
            try:
                name.bind(f"\0cdm-train-port-{port}")
            except OSError:
                name.close()
                return False
            claims.enter_context(name)
            return True

        yield _choose(asked, last, claim)


def _choose(asked: Mapping[str, int], last: Ports | None, claim: Callable[[int], bool]) -> Ports:
    chosen: dict[str, int] = {}
    for name, port in asked.items():
        if port in chosen.values() or not _is_free(name, port) or not claim(port):
            flag = name.replace("_dashboard", "").replace("_", "-")
            raise PortInUse(
                f"port {port} for {flag} is in use: give another with --{flag}-port, or none to have one chosen"
            )
        chosen[name] = port
    for name in Ports.model_fields:
        if name not in chosen:
            chosen[name] = next(
                port
                for port in _candidates(name, last)
                if port not in chosen.values() and _is_free(name, port) and claim(port)
            )
    return Ports.model_validate(chosen)


def stand_in(ports: Ports, name: str) -> int | None:
    """The port that was taken by chance, since the usual one was in use."""
    port: int = getattr(ports, name)
    return port if port in _RANGE else None


def _candidates(name: str, last: Ports | None) -> Iterator[int]:
    if last is not None:
        yield getattr(last, name)
    if name in USUAL:
        yield USUAL[name]
    yield from random.sample(_RANGE, len(_RANGE))


def _is_free(name: str, port: int) -> bool:
    return _can_bind(port) and (name not in _WITH_GRPC or _can_bind(port + _GRPC_OFFSET))


def _can_bind(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the servers do: a closed port is a free one
        try:
            probe.bind(("", port))  # all addresses: Ray listens on all of them
        except (OSError, OverflowError):
            return False
    return True
