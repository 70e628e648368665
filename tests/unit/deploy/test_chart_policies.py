"""What every pod has to be like: Pod Security's `restricted`, and more."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from service.settings import Settings
from tests.support.chart import EXAMPLES, ROOT, Document, one, pods, rendered

DISK = "ephemeral-storage"
EVERYTHING: dict[str, Any] = {
    "ray.autoscaling.enabled": True,
    "ray.dataClaim": "images",
    "api.replicas": 2,
    "ray.workers": [
        {"name": "cpu", "replicas": 0, "minReplicas": 0, "maxReplicas": 4, "cpus": 2, "memory": "8Gi"},
        {
            **{"name": "gpu", "replicas": 0, "minReplicas": 0, "maxReplicas": 4, "cpus": 8, "memory": "64Gi"},
            **{"gpus": 2, "resources": {"rdma/shared": "1"}},
        },
    ],
}
_RESTRICTED_VOLUMES = {
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "persistentVolumeClaim",
    "projected",
    "secret",
}


@pytest.fixture(params=[*(path.stem for path in EXAMPLES), "everything"])
def documents(request: pytest.FixtureRequest) -> list[Document]:
    return rendered("trial", **EVERYTHING) if request.param == "everything" else rendered(request.param)


def _containers(pod: Document) -> list[Document]:
    return [*pod["spec"].get("initContainers", []), *pod["spec"]["containers"]]


def test_pods_are_restricted(documents: list[Document]) -> None:
    for pod in pods(documents).values():
        spec = pod["spec"]
        who = spec["securityContext"]
        assert who["runAsNonRoot"] is True
        assert who["runAsUser"] > 0
        assert who["seccompProfile"] == {"type": "RuntimeDefault"}
        assert not {"hostNetwork", "hostPID", "hostIPC"} & spec.keys()
        for volume in spec.get("volumes", []):
            assert volume.keys() - {"name"} <= _RESTRICTED_VOLUMES
        for container in _containers(pod):
            may = container["securityContext"]
            assert may["allowPrivilegeEscalation"] is False
            assert may["readOnlyRootFilesystem"] is True
            assert may["capabilities"] == {"drop": ["ALL"]}
            assert not {"privileged", "runAsUser", "procMount"} & may.keys()


def test_pods_get_no_token_of_kubernetes(documents: list[Document]) -> None:
    accounts = [document for document in documents if document["kind"] == "ServiceAccount"]
    tokens = [
        (volume["name"], name)
        for name, pod in pods(documents).items()
        for volume in pod["spec"].get("volumes", [])
        if any("serviceAccountToken" in source for source in volume.get("projected", {}).get("sources", []))
    ]
    seen = {
        mount["name"]
        for pod in pods(documents).values()
        for container in _containers(pod)
        for mount in container.get("volumeMounts", [])
    }

    assert all(pod["spec"]["automountServiceAccountToken"] is False for pod in pods(documents).values())
    assert all(pod["spec"]["enableServiceLinks"] is False for pod in pods(documents).values())
    assert all(account["automountServiceAccountToken"] is False for account in accounts)
    assert not {volume for volume, _ in tokens} & seen
    assert tokens in ([], [("kubernetes", "ray-head")])


def test_the_autoscaler_alone_sees_the_token_it_needs_and_is_as_restricted() -> None:
    cluster = one(rendered("trial", **EVERYTHING), "RayCluster", "ray")["spec"]
    options = cluster["autoscalerOptions"]
    head = cluster["headGroupSpec"]["template"]["spec"]

    assert options["securityContext"] == head["containers"][0]["securityContext"]
    assert {
        "name": "kubernetes",
        "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount",
        "readOnly": True,
    } in options["volumeMounts"]
    assert {mount["name"] for mount in options["volumeMounts"]} <= {volume["name"] for volume in head["volumes"]}


def test_containers_say_what_they_take_and_how_they_are(documents: list[Document]) -> None:
    for pod in pods(documents).values():
        for container in _containers(pod):
            size = container["resources"]
            assert {"cpu", "memory"} <= size["requests"].keys()
            assert "memory" in size["limits"]
            assert re.search(r":[^:/]+$", container["image"])
            assert not container["image"].endswith(":latest")
        for container in pod["spec"]["containers"]:
            assert {"readinessProbe", "livenessProbe"} <= container.keys()
            # A container is ended only well after it was found not to be ready.
            assert _patience(container["livenessProbe"]) > _patience(container["readinessProbe"])


def _patience(probe: Document) -> int:
    return int(probe.get("periodSeconds", 10)) * int(probe.get("failureThreshold", 3))


def test_no_secret_is_written_into_a_pod(documents: list[Document]) -> None:
    secrets = [
        value for document in documents if document["kind"] == "Secret" for value in document["stringData"].values()
    ]

    for pod in pods(documents).values():
        text = yaml.safe_dump(pod)
        assert not [value for value in secrets if value in text]
        for container in _containers(pod):
            for variable in container["env"]:
                if re.search(r"PASSWORD|SECRET|TOKEN|_KEY|DATABASE_URL|STORE_URI", variable["name"]):
                    assert "valueFrom" in variable, variable["name"]


def test_settings_are_ones_that_the_service_knows(documents: list[Document]) -> None:
    known = {f"CDM_{name.upper()}" for name in Settings.model_fields} | {
        "CDM_URL"
    }  # the latter is of the `cdm` command
    container = pods(documents)["api"]["spec"]["containers"][0]

    assert {one["name"].split("__")[0] for one in container["env"] if one["name"].startswith("CDM_")} <= known


def test_the_api_is_told_what_an_autoscaler_may_add() -> None:
    def grows_to(**values: Any) -> tuple[str, ...]:
        environment = pods(rendered("trial", **values))["api"]["spec"]["containers"][0]["env"]
        told = {one["name"]: one.get("value") for one in environment}
        return told["CDM_RAY_GROWS_TO__CPUS"], told["CDM_RAY_GROWS_TO__GPUS"]

    existing = {
        "ray.bundled": False,
        "ray.url": "http://head:8265",
        "secrets.existingSecret": "mine",
        "ray.growsTo": {"gpus": 64},
    }

    assert grows_to() == ("0", "0")
    assert grows_to(**{"ray.autoscaling.enabled": True, "ray.workers": EVERYTHING["ray.workers"]}) == ("40", "8")
    assert grows_to(**existing) == ("0", "64")


def test_the_autoscaler_is_left_to_say_how_many_nodes_there_are() -> None:
    groups = one(rendered("trial", **EVERYTHING), "RayCluster", "ray")["spec"]["workerGroupSpecs"]

    assert all("replicas" not in group for group in groups)  # an upgrade would set them back


def test_gpus_are_asked_of_kubernetes_and_told_to_ray() -> None:
    cluster = one(rendered("trial", **EVERYTHING), "RayCluster", "ray")["spec"]
    (group,) = [group for group in cluster["workerGroupSpecs"] if group["groupName"] == "gpu"]

    assert group["rayStartParams"]["num-gpus"] == "2"
    assert group["template"]["spec"]["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == "2"


def test_what_other_device_plugins_hand_out_is_asked_for_by_the_group_that_names_it() -> None:
    cpu, gpu = (
        pods(rendered("trial", **EVERYTHING))[f"ray-{group}"]["spec"]["containers"][0]["resources"]
        for group in ("cpu", "gpu")
    )

    assert gpu["requests"] == gpu["limits"] | {DISK: "10Gi"}
    assert gpu["limits"] == {"cpu": "8", "memory": "64Gi", "nvidia.com/gpu": "2", "rdma/shared": "1"}
    assert cpu["limits"] == {"cpu": "2", "memory": "8Gi"}


def test_the_room_that_nodes_of_ray_take_on_a_disk_is_requested() -> None:
    cpu = {"name": "cpu", "replicas": 1, "minReplicas": 1, "maxReplicas": 1, "cpus": 2, "memory": "8Gi"}
    groups = [cpu, cpu | {"name": "large", "cacheSize": "500Gi"}, cpu | {"name": "own", "resources": {DISK: "80Gi"}}]

    made = pods(rendered("trial", **{"ray.workers": groups}))

    told = {name: made[name]["spec"]["containers"][0]["resources"]["requests"].get(DISK) for name in made}
    nodes = {"ray-head": "10Gi", "ray-cpu": "10Gi", "ray-large": "500Gi", "ray-own": "80Gi"}
    assert {name: size for name, size in told.items() if size} == nodes


def test_a_replica_that_ends_serves_on_until_it_is_forgotten_and_then_ends_its_requests() -> None:
    spec = pods(rendered("production"))["api"]["spec"]
    pause = spec["containers"][0]["lifecycle"]["preStop"]["exec"]["command"]
    (for_requests,) = re.findall(r'"--timeout-graceful-shutdown", "(\d+)"', (ROOT / "Dockerfile").read_text())

    assert pause[0] == "sleep"
    assert spec["terminationGracePeriodSeconds"] >= int(pause[1]) + int(for_requests) + 10


@pytest.mark.parametrize("example", [path.stem for path in EXAMPLES])
def test_nodes_that_start_from_none_are_selected_by_what_is_known_before_they_are_there(example: str) -> None:
    clusters = [one["spec"] for one in rendered(example) if one["kind"] == "RayCluster"]
    growing = [group for spec in clusters for group in spec["workerGroupSpecs"] if not group["minReplicas"]]
    selected = {label for group in growing for label in group["template"]["spec"].get("nodeSelector", {})}

    assert selected <= {"node.kubernetes.io/instance-type"}


def test_cpu_jobs_neither_fill_nor_count_on_machines_that_are_kept_for_gpus() -> None:
    documents = rendered("production")
    groups = {group["groupName"]: group for group in one(documents, "RayCluster", "ray")["spec"]["workerGroupSpecs"]}
    variables = {one["name"]: one.get("value") for one in pods(documents)["api"]["spec"]["containers"][0]["env"]}

    assert {name: group["rayStartParams"]["num-cpus"] for name, group in groups.items()} == {"cpu": "8", "h100": "0"}
    assert groups["h100"]["template"]["spec"]["containers"][0]["resources"]["requests"]["cpu"] == "32"
    assert (variables["CDM_RAY_GROWS_TO__CPUS"], variables["CDM_RAY_GROWS_TO__GPUS"]) == ("32", "64")


def test_what_the_workers_image_caches_lies_where_pods_can_write(documents: list[Document]) -> None:
    """Their root cannot be written to, and there Triton's cache would lie."""
    caches = dict(re.findall(r"\b(CDM_CACHE|TRITON_CACHE_DIR)=(\S+)", (ROOT / "Dockerfile").read_text()))

    assert len(caches) == 2
    for name, pod in pods(documents).items():
        if name.startswith("ray-"):
            mounts = pod["spec"]["containers"][0]["volumeMounts"]
            writable = [Path(mount["mountPath"]) for mount in mounts if not mount.get("readOnly")]
            assert all(any(Path(cache).is_relative_to(one) for one in writable) for cache in caches.values()), name


def test_replicas_outlive_disruptions_and_upgrades() -> None:
    documents = rendered("production")
    api = one(documents, "Deployment", "api")["spec"]
    budget = one(documents, "PodDisruptionBudget", "api")["spec"]

    assert api["replicas"] > 1
    assert api["strategy"]["rollingUpdate"]["maxUnavailable"] == 0
    assert budget["maxUnavailable"] < api["replicas"]
    assert api["template"]["spec"]["topologySpreadConstraints"][0]["topologyKey"] == "kubernetes.io/hostname"
