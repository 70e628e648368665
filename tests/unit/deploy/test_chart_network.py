"""Who may speak to whom, by the network policies, asked as Kubernetes decides it."""

from ipaddress import ip_address, ip_network
from typing import Any

import pytest

from service.web.auth import OPEN_PATHS
from tests.support.chart import Document, one, pods, rendered, selects

PORTS = {"api": 8400, "mlflow": 5000, "ray-head": 8265, "postgres": 5432, "s3": 8333}

# Of the trial, where everything is here: who opens connections to whom.
WAYS = {
    ("api", "postgres"),
    ("mlflow", "postgres"),
    ("api", "ray-head"),
    ("ray-cpu", "ray-head"),
    ("api", "mlflow"),
    ("ray-head", "mlflow"),
    ("ray-cpu", "mlflow"),
    ("api", "s3"),
    ("mlflow", "s3"),
    ("ray-head", "s3"),
    ("ray-cpu", "s3"),
}

PUBLIC, PRIVATE, METADATA = "93.184.216.34", "10.1.2.3", "169.254.169.254"


class Network:
    def __init__(self, example: str, **values: Any) -> None:
        documents = rendered(example, **values)
        self._pods = {name: pod["metadata"]["labels"] for name, pod in pods(documents).items()}
        self._policies = [one["spec"] for one in documents if one["kind"] == "NetworkPolicy"]

    def reaches(self, client: str, server: str, port: int) -> bool:
        """Whether one pod may open a connection to another."""
        out = self._allows(client, "egress", "to", port, pod=self._pods[server])
        return out and self._allows(server, "ingress", "from", port, pod=self._pods[client])

    def lets_in(self, server: str, namespace: str, port: int) -> bool:
        """Whether any pod of another namespace may open a connection to one of ours."""
        return self._allows(server, "ingress", "from", port, namespace=namespace)

    def leaves(self, client: str, address: str, port: int) -> bool:
        """Whether a pod may open a connection to something that is no pod of ours."""
        return self._allows(client, "egress", "to", port, address=address)

    def rules(self, name: str, way: str) -> list[Document]:
        """What lets into a pod ("ingress") or out of it ("egress")."""
        (policy,) = [one for one in self._policies if selects(one["podSelector"], self._pods[name])]
        rules: list[Document] = policy[way]
        return rules

    def _allows(self, name: str, way: str, side: str, port: int, **peer: Any) -> bool:
        return any(
            _at_port(rule.get("ports"), port) and (not rule.get(side) or any(_is(one, **peer) for one in rule[side]))
            for rule in self.rules(name, way)
        )


def _at_port(ports: list[Document] | None, port: int) -> bool:
    return not ports or any(one["port"] == port and one.get("protocol", "TCP") == "TCP" for one in ports)


def _is(
    peer: Document, *, pod: dict[str, str] | None = None, address: str | None = None, namespace: str | None = None
) -> bool:
    if block := peer.get("ipBlock"):
        if address is None:
            return False
        inside = ip_address(address) in ip_network(block["cidr"])
        return inside and not any(ip_address(address) in ip_network(one) for one in block.get("except", []))
    if elsewhere := peer.get("namespaceSelector"):
        name = {"kubernetes.io/metadata.name": namespace or ""}
        return "podSelector" not in peer and selects(elsewhere, name)
    return pod is not None and selects(peer["podSelector"], pod)


def test_everybody_reaches_what_it_needs_and_nothing_else() -> None:
    network = Network("trial")
    everybody = [*PORTS, "ray-cpu"]

    ways = {(a, b) for a in everybody for b in PORTS if a != b and b != "api" and network.reaches(a, b, PORTS[b])}

    assert ways == WAYS


def test_anybody_may_ask_the_api_since_it_asks_for_keys() -> None:
    assert Network("trial")._allows("api", "ingress", "from", 8400, address=PUBLIC)


def test_an_ingress_shows_all_that_the_api_has_but_its_metrics() -> None:
    (rule,) = one(rendered("production"), "Ingress", "api")["spec"]["rules"]
    shown = [path["path"] for path in rule["http"]["paths"]]
    paths = {"/v1/jobs", "/v1/keys", *OPEN_PATHS}

    hidden = {path for path in paths if not any(path == prefix or path.startswith(f"{prefix}/") for prefix in shown)}

    assert hidden == {"/metrics"}


def test_s3_is_reached_from_outside_only_where_it_is_said() -> None:
    rules = [{"ports": [{"port": 8333}], "from": [_namespace("ingress-nginx")]}]
    closed, opened = Network("trial"), Network("trial", **{"networkPolicy.s3Ingress": rules})

    assert not closed.lets_in("s3", "ingress-nginx", 8333)
    assert opened.lets_in("s3", "ingress-nginx", 8333)
    assert not opened.lets_in("s3", "ingress-nginx", 8888)
    assert not opened.lets_in("s3", "default", 8333)


def test_prometheus_reaches_the_nodes_of_ray_only_where_it_is_said_and_nothing_else_there() -> None:
    said, unsaid = Network("production"), Network("production", **{"networkPolicy.rayIngress": []})

    for node in ("ray-head", "ray-cpu", "ray-h100"):
        assert not unsaid.lets_in(node, "monitoring", 8080)
        assert [port for port in (6379, 8080, 8265, 10001, 52365) if said.lets_in(node, "monitoring", port)] == [8080]
        assert not said.lets_in(node, "default", 8080)


def _namespace(name: str) -> Document:
    return {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": name}}}


def test_nodes_of_ray_reach_each_other_at_all_ports_and_nobody_else_does() -> None:
    network = Network("trial")

    for port in (6379, 10001, 52365, 40123):
        assert network.reaches("ray-cpu", "ray-head", port)
        assert network.reaches("ray-head", "ray-cpu", port)
        assert not [name for name in ("api", "mlflow", "postgres", "s3") if network.reaches(name, "ray-head", port)]
        assert not [name for name in ("api", "mlflow", "postgres", "s3") if network.reaches(name, "ray-cpu", port)]


@pytest.mark.parametrize("job", ["ray-head", "ray-cpu", "ray-h100"])
def test_jobs_do_not_reach_a_postgres_of_yours(job: str) -> None:
    network = Network("production")

    assert not network.leaves(job, "10.20.0.5", 5432)
    assert network.leaves("api", "10.20.0.5", 5432)
    assert network.leaves("mlflow", "10.20.0.5", 5432)
    assert not network.leaves("api", "10.20.1.5", 5432)


def test_jobs_reach_the_internet_only_where_it_is_said() -> None:
    closed, opened = Network("trial"), Network("trial", **{"networkPolicy.jobsToInternet": True})

    assert not closed.leaves("ray-cpu", PUBLIC, 443)
    assert opened.leaves("ray-cpu", PUBLIC, 443)
    for address in (PRIVATE, METADATA):
        assert not opened.leaves("ray-cpu", address, 443)
        assert not opened.leaves("ray-cpu", address, 80)


def test_webhooks_reach_public_addresses_only() -> None:
    network = Network("trial")

    assert network.leaves("api", PUBLIC, 443)
    assert not network.leaves("api", PRIVATE, 443)
    assert not network.leaves("api", METADATA, 443)


def test_what_is_not_bundled_is_reached_at_its_own_port() -> None:
    network = Network("minimal-existing-ray", **{"s3.endpointUrl": "http://10.3.0.9:9000"})

    assert network.leaves("api", "10.0.0.9", 8265)
    assert network.leaves("api", "10.0.0.9", 5000)
    assert network.leaves("api", "10.3.0.9", 9000)
    assert not network.leaves("api", "10.3.0.9", 8333)


def test_of_ray_only_the_head_and_only_with_autoscaling_reaches_kubernetes() -> None:
    growing = Network("trial", **{"ray.autoscaling.enabled": True})

    assert growing.leaves("ray-head", PRIVATE, 6443)
    assert not growing.leaves("ray-cpu", PRIVATE, 6443)
    assert not Network("trial").leaves("ray-head", PRIVATE, 6443)


def test_of_ray_only_the_head_reaches_the_redis_that_keeps_its_table() -> None:
    address = {"ray.gcsFaultTolerance.redisAddress": "redis.example.org:6380"}
    anywhere = Network("trial", **address)
    named = Network("trial", **address, **{"networkPolicy.to.redis": [{"ipBlock": {"cidr": "10.1.0.0/16"}}]})

    assert anywhere.leaves("ray-head", "10.9.0.1", 6380)
    assert not anywhere.leaves("ray-cpu", "10.9.0.1", 6380)
    assert named.leaves("ray-head", PRIVATE, 6380)
    assert not named.leaves("ray-head", "10.9.0.1", 6380)
    assert not Network("trial").leaves("ray-head", PRIVATE, 6380)


def test_a_peer_may_have_another_port_than_the_url_which_leads_to_it() -> None:
    servers = [{"ipBlock": {"cidr": "10.1.0.0/16"}, "port": 9000}, {"ipBlock": {"cidr": "10.2.0.0/16"}}]
    resolver = [{**_namespace("openshift-dns"), "port": 5353}]
    network = Network("minimal-existing-ray", **{"networkPolicy.to.s3": servers, "networkPolicy.to.dns": resolver})

    asked = [("10.1.0.5", 9000), ("10.1.0.5", 443), ("10.2.0.5", 443), ("10.2.0.5", 9000)]

    assert [network.leaves("api", *one) for one in asked] == [True, False, True, False]
    (dns,) = [rule for rule in network.rules("api", "egress") if rule.get("to") == [_namespace("openshift-dns")]]
    assert [(port["port"], port["protocol"]) for port in dns["ports"]] == [(5353, "UDP"), (5353, "TCP")]


@pytest.mark.parametrize("client", ["ray-cpu", "mlflow"])
def test_whoever_hands_out_keys_by_roles_is_reached(client: str) -> None:
    agent, s3, sts = "169.254.170.23", [{"ipBlock": {"cidr": "10.5.0.0/16"}}], [{"ipBlock": {"cidr": "10.6.0.0/16"}}]
    anywhere = Network("production")
    one_endpoint = Network("production", **{"networkPolicy.to.s3": s3})
    two_endpoints = Network("production", **{"networkPolicy.to.s3": s3, "networkPolicy.to.sts": sts})

    for network in (anywhere, one_endpoint, two_endpoints):
        assert network.leaves(client, agent, 80)
        assert not network.leaves(client, agent, 443)
        assert not network.leaves(client, METADATA, 80)
    assert anywhere.leaves(client, PUBLIC, 443)
    assert [one_endpoint.leaves(client, address, 443) for address in ("10.5.0.1", "10.6.0.1", PUBLIC)] == [
        True,
        False,
        False,
    ]
    assert [two_endpoints.leaves(client, address, 443) for address in ("10.5.0.1", "10.6.0.1", PUBLIC)] == [
        True,
        True,
        False,
    ]
    assert not Network("trial").leaves(client, agent, 80), "where keys come from the Secret"
