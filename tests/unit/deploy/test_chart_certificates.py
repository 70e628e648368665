"""Servers behind a certificate authority of one's own are believed by every part that reaches them."""

import pytest

from tests.support.chart import Document, pods, rendered

VARIABLES = {"AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "SSL_CERT_FILE", "PGSSLROOTCERT"}
REACHING = {"api", "mlflow", "ray-head", "ray-cpu"}


def _containers(pod: Document) -> list[Document]:
    return [*pod["spec"].get("initContainers", []), *pod["spec"]["containers"]]


@pytest.mark.parametrize("maintained", [False, True], ids=["serving", "maintained"])
def test_every_part_that_reaches_others_has_the_authority_and_is_told_where(maintained: bool) -> None:
    values = {"certificateAuthority.configMap": "authorities", "api.maintenance": maintained}

    found = pods(rendered("trial", **values))

    for name in REACHING:
        volumes = {one["name"]: one for one in found[name]["spec"]["volumes"]}
        assert volumes["certificate-authority"]["configMap"] == {"name": "authorities"}
        for container in _containers(found[name]):
            (mount,) = [one for one in container["volumeMounts"] if one["name"] == "certificate-authority"]
            told = {one["name"]: one.get("value") for one in container["env"] if one["name"] in VARIABLES}
            assert mount["readOnly"]
            assert told == dict.fromkeys(VARIABLES, f"{mount['mountPath']}/ca.crt"), (name, container["name"])
    for name in found.keys() - REACHING:
        assert not any(volume["name"] == "certificate-authority" for volume in found[name]["spec"]["volumes"])


def test_where_none_is_named_the_public_ones_are_believed() -> None:
    for pod in pods(rendered("production")).values():
        assert not any(one["name"] in VARIABLES for container in _containers(pod) for one in container["env"])
        assert not any(volume["name"] == "certificate-authority" for volume in pod["spec"].get("volumes", []))
