"""What Ray reports of its nodes, as recorded from 2.60: two actors' CPUs, a reserved group, a node that died."""

import json
from typing import Any

import pytest

from service.cluster import ray_capacity
from service.cluster.base import ClusterUnreachable, Resources
from service.cluster.ray_answers import Actors, Groups, Nodes, NodeSummary, read, read_beginning

HEAD = {"nodeId": "head", "state": "ALIVE", "resourcesTotal": {"CPU": 4.0, "memory": 1e10, "node:127.0.0.2": 1.0}}
WORKER = {"nodeId": "worker", "state": "ALIVE", "resourcesTotal": {"CPU": 3.0, "GPU": 2.0}}
DEAD = {"nodeId": "dead", "state": "DEAD", "resourcesTotal": {}}
HEAD_USE = (
    "2.0/4.0 CPU (0.0 used of 1.0 reserved in placement groups)\n0B/18.01GiB memory\n0B/256.00MiB object_store_memory"
)
WORKER_USE = "0.5/3.0 CPU\n2.0/2.0 GPU (1.0 used of 1.0 reserved in placement groups)\n0.0/1.0 accelerator_type:H100"


def summary(*raylets: dict[str, Any], usage: dict[str, str]) -> NodeSummary:
    document = {"data": {"summary": [{"raylet": one} for one in raylets], "nodeLogicalResources": usage}}
    return read(Nodes, json.dumps(document).encode()).data


def listing(*entries: dict[str, Any]) -> bytes:
    return json.dumps({"data": {"result": {"result": entries}}}).encode()


def test_only_the_living_nodes_count() -> None:
    nodes = summary(HEAD, WORKER, DEAD, {**WORKER, "state": "DEAD"}, usage={})

    assert ray_capacity.total_of(nodes) == Resources(cpus=7.0, gpus=2.0)


def test_what_is_reserved_is_in_use_whether_or_not_it_is_used() -> None:
    nodes = summary(HEAD, WORKER, DEAD, usage={"head": HEAD_USE, "worker": WORKER_USE, "dead": HEAD_USE})

    assert ray_capacity.reported_use(nodes) == Resources(cpus=3.5, gpus=2.0)


@pytest.mark.parametrize(
    "usage",
    [
        {},
        {"head": HEAD_USE},
        {"head": HEAD_USE, "worker": "0.5/3.0 CPU"},
        {"head": HEAD_USE, "worker": "3 of 3 CPU, 2 of 2 GPU"},
    ],
)
def test_accounts_that_are_not_whole_are_none(usage: dict[str, str]) -> None:
    """Otherwise a node that nothing is said of would pass for idle."""
    assert ray_capacity.reported_use(summary(HEAD, WORKER, usage=usage)) is None


def test_an_actor_in_a_group_uses_what_the_group_reserved() -> None:
    groups = read(Groups, listing({"bundles": [{"unit_resources": {"CPU": 1.0, "GPU": 1.0}}] * 2}))
    actors = read(
        Actors,
        listing(
            {"placement_group_id": "group", "required_resources": {"CPU": 1.0}},
            {"placement_group_id": None, "required_resources": {"CPU": 1.5}},
            {"placement_group_id": None, "required_resources": {}},
        ),
    )

    assert ray_capacity.held(groups, actors) == Resources(cpus=3.5, gpus=2.0)


@pytest.mark.parametrize(
    "body", [b"", b"<html>", b"[]", b"null", b'{"data": {}}', b'{"data": {"summary": [{}]}}', b"\xff"]
)
def test_what_is_not_rays_answer_is_no_answer(body: bytes) -> None:
    with pytest.raises(ClusterUnreachable, match="not Ray's"):
        read(Nodes, body)


def test_a_log_that_is_too_long_is_read_up_to_wherever_it_was_cut() -> None:
    """In the middle of any escape too; Ray writes only ASCII."""
    text = 'one\n"two" \\n \\\\ x\té' * 3
    body = json.dumps({"logs": text}).encode()
    shortest = len(b'{"logs": "')

    for length in range(shortest, len(body) - 2):
        beginning = read_beginning(body[:length])

        assert text.startswith(beginning)
        assert len(json.dumps({"logs": beginning})) - 2 >= length - len(r"\u0000")


def test_a_long_answer_that_holds_no_log_is_no_answer() -> None:
    with pytest.raises(ClusterUnreachable):
        read_beginning(b"<html>" + b" " * 1000)
