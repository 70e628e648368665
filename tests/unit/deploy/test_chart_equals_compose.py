"""On Kubernetes the same things run as under `docker compose`: images, commands, environment, probes, limits.

What differs is listed here, each with its reason; what does not differ may not be listed.
"""

import json
import re
from typing import Any

import pytest
import yaml

from tests.support.chart import ROOT, Document, one, pods, rendered, selects

Facts = dict[str, Any]

COMPONENTS = ("postgres", "s3", "mlflow", "ray-head", "ray-worker", "migrate", "api")

# By component, or for all, and by what: why Kubernetes does it in another way.
DIFFERENCES = {
    ("ray-head", "env.RAY_AUTH_MODE"): "KubeRay sets it in every container, its own too, from authOptions",
    ("ray-head", "env.RAY_AUTH_TOKEN"): "the same",
    ("ray-worker", "env.RAY_AUTH_MODE"): "the same",
    ("ray-worker", "env.RAY_AUTH_TOKEN"): "the same",
    ("ray-head", "command.block"): "KubeRay adds it",
    ("ray-worker", "command.block"): "KubeRay adds it",
    ("ray-worker", "command.address"): "KubeRay adds it",
    (
        "ray-worker",
        "command.num-gpus",
    ): "Ray finds a compose machine's GPUs by itself; here the autoscaler has to know them before",
    ("ray-worker", "grace"): "Kubernetes takes nodes away while the rest goes on: jobs are given time to leave them",
    ("api", "grace"): "it serves on for a while, until Services send it nothing more",
    ("api", "env.CDM_RAY_GROWS_TO__CPUS"): "only KubeRay has an autoscaler",
    ("api", "env.CDM_RAY_GROWS_TO__GPUS"): "the same",
    ("migrate", "env.CDM_RAY_GROWS_TO__CPUS"): "the same",
    ("migrate", "env.CDM_RAY_GROWS_TO__GPUS"): "the same",
    ("api", "probe"): "not ready is not reachable here: see the comment in templates/api.yaml",
    ("postgres", "env.PGDATA"): "the root of a claimed volume may hold lost+found, beside which nothing is set up",
    ("s3", "command.ip"): "its parts find each other in the pod; a Service's address would have to be ready first",
    ("postgres", "read_only"): "restricted: what it writes beside its data lies on volumes of their own",
    ("s3", "read_only"): "the same",
    ("postgres", "writes"): "the same",
    ("s3", "writes"): "the same",
    (
        "ray-head",
        "read_only",
    ): "compose would keep what a container without a writable root leaves behind; here it goes with the pod",
    ("ray-worker", "read_only"): "the same",
    ("ray-head", "writes"): "so what it writes lies on volumes",
    ("ray-worker", "writes"): "the same",
    ("ray-head", "reads"): "images by path come from a claim, if one is named (ray.dataClaim)",
    ("ray-worker", "reads"): "the same",
}


@pytest.mark.parametrize("component", COMPONENTS)
def test_kubernetes_runs_what_compose_runs(component: str) -> None:
    documents = rendered("trial", **{"mlflow.publicUrl": "http://localhost:5400"})
    secrets: dict[str, str] = one(documents, "Secret", "secrets")["stringData"]

    composed = _composed(component, secrets)
    charted = _charted(component, documents, secrets)

    different = {(component, key) for key in composed.keys() | charted.keys() if composed.get(key) != charted.get(key)}
    allowed = {key for key in DIFFERENCES if key[0] == component}
    told = [
        f"{key}: compose {composed.get(key)!r}, chart {charted.get(key)!r}" for _, key in sorted(different - allowed)
    ]
    assert not told
    assert not allowed - different, "listed, and not different"


def test_s3_knows_the_same_accounts() -> None:
    secrets: dict[str, str] = one(rendered("trial"), "Secret", "secrets")["stringData"]
    composed = _compose_file(secrets)["configs"]["s3-accounts"]["content"]

    assert json.loads(secrets["s3-accounts.json"]) == json.loads(composed)


def test_nodes_of_ray_are_scraped_alike() -> None:
    documents = rendered("trial", **{"monitoring.podMonitor": True})
    monitor = one(documents, "PodMonitor", "ray")["spec"]
    (endpoint,) = monitor["podMetricsEndpoints"]
    (job,) = (label["replacement"] for label in endpoint["relabelings"] if label["targetLabel"] == "job")
    scraped = {
        name: pod for name, pod in pods(documents).items() if selects(monitor["selector"], pod["metadata"]["labels"])
    }
    ports = {
        port["containerPort"]
        for pod in scraped.values()
        for port in pod["spec"]["containers"][0]["ports"]
        if port["name"] == endpoint["port"]
    }

    prometheus = yaml.safe_load((ROOT / "deploy/prometheus/prometheus.yml").read_text())
    composed = {one["job_name"]: one["dns_sd_configs"][0]["port"] for one in prometheus["scrape_configs"]}
    assert scraped.keys() == {"ray-head", "ray-cpu"}
    assert ports == {composed["ray"]}
    assert job == "cdm/cdm-train-ray", "of this release alone"


def test_pods_run_as_the_user_of_the_images() -> None:
    (uid,) = set(re.findall(r"^USER (\d+)$", (ROOT / "Dockerfile").read_text(), re.MULTILINE))
    ours = {name: pod for name, pod in pods(rendered("trial")).items() if name not in ("postgres", "s3")}

    assert {pod["spec"]["securityContext"]["runAsUser"] for pod in ours.values()} == {int(uid)}


def test_rays_version_is_that_of_the_image() -> None:
    (pinned,) = set(re.findall(r"ray\[[a-z,]+\]==([\d.]+)", (ROOT / "pyproject.toml").read_text()))

    assert one(rendered("trial"), "RayCluster", "ray")["spec"]["rayVersion"] == pinned


# The values that init.sh writes into .env, by the keys of the chart's Secret.
_KEYS = {
    "CDM_API_KEY": "api-key",
    "RAY_AUTH_TOKEN": "auth_token",
    "S3_ACCESS_KEY": "s3-access-key",
    "S3_SECRET_KEY": "s3-secret-key",
    "MLFLOW_S3_ACCESS_KEY": "mlflow-s3-access-key",
    "MLFLOW_S3_SECRET_KEY": "mlflow-s3-secret-key",
    "POSTGRES_PASSWORD": "postgres-password",
    "CDM_DATABASE_PASSWORD": "database-password",
    "MLFLOW_DATABASE_PASSWORD": "mlflow-database-password",
}
_VARIABLE = re.compile(r"\$\{(?P<name>\w+)(?::?[-?](?P<default>[^${}]*))?\}")
_SIZES = {"mb": "Mi", "gb": "Gi", "m": "Mi", "g": "Gi"}


def _compose_file(secrets: dict[str, str]) -> Document:
    """docker-compose.yml with every variable filled in: our secrets, and defaults."""

    def value(match: re.Match[str]) -> str:
        key = _KEYS.get(match["name"])
        return secrets[key] if key else match["default"]

    text = (ROOT / "docker-compose.yml").read_text()
    while (filled := _VARIABLE.sub(value, text)) != text:  # defaults may hold variables
        text = filled
    document: Document = yaml.safe_load(text)
    return document


def _composed(component: str, secrets: dict[str, str]) -> Facts:
    service = _compose_file(secrets)["services"][component]
    check = service.get("healthcheck")
    mounts = [mount.split(":") for mount in service.get("volumes", [])]
    configs = {config["target"] for config in service.get("configs", [])}
    return {
        "image": _our_image(service["image"]),
        "memory": _size(service.get("mem_limit")),
        "shared_memory": _size(service.get("shm_size")),
        "grace": service.get("stop_grace_period"),
        "read_only": service.get("read_only", False),
        "writes": {mount[1] for mount in mounts if mount[-1] != "ro"} | set(service.get("tmpfs", [])),
        "reads": {mount[1] for mount in mounts if mount[-1] == "ro"} | configs,
        "ports": {int(port.split(":")[-1]) for port in service.get("ports", [])},
        "probe": _probe_command(check["test"]) if check else None,
        "probe.timing": (check["interval"], check["timeout"], check["retries"]) if check else None,
        **_command(service.get("command", [])),
        **{f"env.{name}": value for name, value in service.get("environment", {}).items()},
    }


def _charted(component: str, documents: list[Document], secrets: dict[str, str]) -> Facts:
    spec = pods(documents)[{"migrate": "api", "ray-worker": "ray-cpu"}.get(component, component)]["spec"]
    (container,) = spec["initContainers"] if component == "migrate" else spec["containers"]
    probe = container.get("readinessProbe")
    volumes = {volume["name"]: volume for volume in spec.get("volumes", [])}
    mounts = {mount["mountPath"]: mount for mount in container.get("volumeMounts", [])}
    shared = mounts.pop("/dev/shm", None)  # noqa: S108 (a mount in a container)
    run = {"/var/run/postgresql"} if component == "postgres" else set()
    published = component in ("api", "mlflow", "s3")  # the others' are in the addresses by which they are called
    assert run <= mounts.keys()
    return {
        "image": _our_image(container["image"]),
        "memory": container["resources"]["limits"]["memory"],
        "shared_memory": volumes[shared["name"]]["emptyDir"]["sizeLimit"] if shared else None,
        "grace": f"{spec['terminationGracePeriodSeconds']}s" if _has_grace(component, spec) else None,
        "read_only": container["securityContext"]["readOnlyRootFilesystem"],
        "writes": {path for path, mount in mounts.items() if not mount.get("readOnly")},
        "reads": {path for path, mount in mounts.items() if mount.get("readOnly")},
        "ports": {port["containerPort"] for port in container.get("ports", [])} if published else set(),
        "probe": _probe(probe, container) if probe else None,
        "probe.timing": (f"{probe['periodSeconds']}s", f"{probe['timeoutSeconds']}s", probe["failureThreshold"])
        if probe
        else None,
        **_command(container.get("args") or container.get("command") or _ray_start(component, documents)),
        **{f"env.{one['name']}": _local(_value(one, secrets)) for one in container["env"]},
    }


def _has_grace(component: str, spec: Document) -> bool:
    return component != "migrate" and "terminationGracePeriodSeconds" in spec


def _value(variable: Document, secrets: dict[str, str]) -> str:
    if "value" in variable:
        return str(variable["value"])
    return secrets[variable["valueFrom"]["secretKeyRef"]["key"]]


def _local(text: str) -> str:
    """By the names that the components have in the compose file."""
    return text.replace("cdm-train-ray-head-svc", "ray-head").replace("cdm-train-", "")


def _ray_start(component: str, documents: list[Document]) -> list[str]:
    if not component.startswith("ray-"):
        return []
    spec = one(documents, "RayCluster", "ray")["spec"]
    group = spec["headGroupSpec"] if component == "ray-head" else spec["workerGroupSpecs"][0]
    options = [f"--{key}" if value == "true" else f"--{key}={value}" for key, value in group["rayStartParams"].items()]
    return ["ray", "start", *(["--head"] if component == "ray-head" else []), *options]


def _command(words: list[str]) -> Facts:
    """Options in any order, the other words as they are."""
    options = [word.lstrip("-").partition("=") for word in words if word.startswith("-") and len(word) > 2]
    return {
        "command": [word for word in words if not (word.startswith("-") and len(word) > 2)],
        **{f"command.{name}": value for name, _, value in options},
    }


def _our_image(image: str) -> str:
    """Our own are tagged by release, or `dev`."""
    return image.rpartition(":")[0] if image.startswith("cdm-train/") else image


def _size(text: str | None) -> str | None:
    if text is None:
        return None
    number, unit = re.fullmatch(r"(\d+)([a-z]+)", text).groups()  # type: ignore[union-attr] # else the test fails here
    return f"{number}{_SIZES[unit]}"


def _probe_command(test: list[str]) -> list[str]:
    return ["sh", "-c", test[1]] if test[0] == "CMD-SHELL" else test[1:]


def _probe(probe: Document, container: Document) -> list[str]:
    """A GET of the kubelet's as the command that does the same."""
    if "exec" in probe:
        return list(probe["exec"]["command"])
    (port,) = (port["containerPort"] for port in container["ports"] if port["name"] == probe["httpGet"]["port"])
    (host,) = [header["value"] for header in probe["httpGet"].get("httpHeaders", [])] or [f"127.0.0.1:{port}"]
    return ["probe", f"http://{_local(host)}{probe['httpGet']['path']}"]
