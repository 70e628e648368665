"""Which ports a stack gets."""

import socket
from collections.abc import Iterator, Mapping

import pytest

from service.embedded.documents import Ports
from service.embedded.errors import PortInUse
from service.embedded.ports import reserved


@pytest.fixture
def taken() -> Iterator[int]:
    """A port on which another server listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def choose(asked: Mapping[str, int], *, last: Ports | None) -> Ports:
    with reserved(asked, last=last) as ports:
        return ports


def test_stacks_that_start_at_the_same_time_get_other_ports() -> None:
    with reserved({}, last=None) as first:
        with reserved({}, last=first) as second:
            assert not {*first.model_dump().values()} & {*second.model_dump().values()}
        with pytest.raises(PortInUse, match=f"port {first.mlflow} for mlflow is in use"):
            choose({"mlflow": first.mlflow}, last=None)

    assert choose({}, last=first) == first


def test_every_server_gets_a_port_of_its_own() -> None:
    ports = list(choose({}, last=None).model_dump().values())

    assert len(set(ports)) == len(Ports.model_fields)


def test_ports_stay_the_same_over_restarts() -> None:
    first = choose({}, last=None)

    assert choose({}, last=first) == first


def test_a_port_of_the_last_run_that_is_taken_now_is_replaced(taken: int) -> None:
    last = choose({}, last=None).model_copy(update={"ray_dashboard": taken})

    ports = choose({}, last=last)

    assert ports.ray_dashboard != taken
    assert ports.s3 == last.s3


def test_a_port_that_is_asked_for_is_given_or_refused_by_name(taken: int) -> None:
    free = choose({}, last=None).s3

    assert choose({"ray_dashboard": free}, last=None).ray_dashboard == free
    with pytest.raises(PortInUse, match=rf"port {taken} for ray is in use.*--ray-port"):
        choose({"ray_dashboard": taken}, last=None)


def test_the_same_port_is_not_given_twice() -> None:
    free = choose({}, last=None).s3

    with pytest.raises(PortInUse, match="mlflow"):
        choose({"api": free, "mlflow": free}, last=None)


def test_seaweedfs_gets_only_ports_whose_grpc_twin_is_free_too() -> None:
    port = choose({}, last=None).s3

    with socket.create_server(("127.0.0.1", port + 10_000)), pytest.raises(PortInUse, match="s3"):
        choose({"s3": port}, last=None)
    assert choose({"s3": port}, last=None).s3 == port
