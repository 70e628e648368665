"""The stack of docker-compose.yml from outside: requests, pages and what cannot be reached."""

import json
import re
import shutil
import textwrap
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import httpx2
import pytest

from service.client import Client
from service.jobs.views import Job, JobState
from tests.support.compose import Compose, inspect, output_of, published
from tests.support.compose_jobs import assert_nothing_is_lost, ended
from tests.support.pictures import encoded, picture, write_zip
from tests.support.specs import smoke_spec
from tests.support.stack_jobs import log_of
from tests.support.waiting import wait_until

pytestmark = pytest.mark.timeout(900)

_OURS = {"api", "migrate", "mlflow", "ray-head", "ray-worker"}


@pytest.fixture(scope="module")
def succeeded(compose: Compose) -> Job:
    with compose.client() as client:
        return ended(client, client.jobs.create(smoke_spec(), name="from outside"))


def test_a_job_of_two_workers_runs_on_two_nodes_and_leaves_everything(
    compose: Compose, client: Client, succeeded: Job
) -> None:
    assert_nothing_is_lost(compose, client, succeeded)
    log = log_of(client, succeeded)
    nodes = {line.split("ip=")[1].split(")")[0].split(",")[0] for line in log.splitlines() if "RayTrainWorker" in line}
    assert len(nodes) == 2, log


def test_the_three_lines_of_curl_of_the_documentation_fetch_a_picture(compose: Compose) -> None:
    page = (compose.folder / "docs/deployment.md").read_text()
    (script,) = [block for block in page.split("```") if "/samples/latest" in block]
    script = script.removeprefix("sh\n").replace("localhost:8400", f"localhost:{compose.api_port}")

    output_of("bash", "-euo", "pipefail", "-c", script, folder=compose.folder)

    assert (compose.folder / "grid.png").read_bytes().startswith(b"\x89PNG")


def test_images_of_this_machine_are_sent_to_the_store_and_results_fetched_from_it(
    compose: Compose, client: Client, tmp_path: Path
) -> None:
    pictures = write_zip(tmp_path / "pictures.zip", {f"{n}.png": encoded(picture(n)) for n in range(20)})
    sent = client.uploads.send(pictures)

    job = ended(client, client.jobs.create({"kind": "import", "dataset": {"kind": "zip", "path": sent.path}}))

    assert job.state is JobState.SUCCEEDED, job.message
    assert job.dataset_digest
    assert client.datasets.retrieve(job.dataset_digest).num_images == 20
    links = {file.name: file.url for file in client.jobs.files(job.id)}
    assert links["result.json"]
    report = httpx2.get(links["result.json"]).raise_for_status().json()  # without a key
    assert report["manifest"]["num_images"] == 20


def test_weights_are_fetched_from_outside_with_the_key_alone(client: Client, succeeded: Job, tmp_path: Path) -> None:
    found = client.jobs.download_checkpoint(succeeded.id, tmp_path, files=["ema.safetensors"])

    assert found.images_seen == succeeded.spec.total_images
    assert {path.name for path in tmp_path.iterdir()} == {"ema.safetensors", "MANIFEST.json"}


def test_mlflow_shows_the_curves_of_a_job_in_a_browser(succeeded: Job, tmp_path: Path) -> None:
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("no Chromium to open MLflow's page with")
    assert succeeded.mlflow_url
    options = [
        *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", f"--user-data-dir={tmp_path}"),
        *("--virtual-time-budget=60000", "--window-size=1500,1100", "--dump-dom"),
    ]

    assert "loss/consistency" in output_of(browser, *options, succeeded.mlflow_url)


def test_only_the_api_mlflow_and_s3_can_be_reached_and_only_from_this_machine(compose: Compose) -> None:
    reachable = {}
    for name in compose.run("config", "--services").split():
        for container in compose.containers(name):
            if addresses := published(container):
                reachable[name] = addresses

    assert reachable == {"api": ["127.0.0.1"], "mlflow": ["127.0.0.1"], "s3": ["127.0.0.1"]}


def test_rays_interface_refuses_those_without_its_token(compose: Compose) -> None:
    ask = "import urllib.request as r; r.urlopen('http://ray-head:8265/api/jobs/')"

    answer = compose.run("exec", "-T", "mlflow", "python", "-c", f"{ask}", check=False)
    reason = compose.run(
        "exec",
        "-T",
        "mlflow",
        "python",
        "-c",
        f"import urllib.error as e\ntry:\n    {ask}\nexcept e.HTTPError as found:\n    print(found.code)",
    )

    assert answer == ""
    assert reason.strip() == "401"


def test_jobs_cannot_reach_the_database(compose: Compose) -> None:
    look = "import socket\ntry: socket.getaddrinfo('postgres', 5432)\nexcept OSError: print('unknown')"

    assert compose.run("exec", "-T", "ray-worker", "python", "-c", look).strip() == "unknown"
    assert compose.run("exec", "-T", "api", "python", "-c", look).strip() == ""


def test_mlflows_keys_open_its_own_bucket_and_no_other(compose: Compose) -> None:
    look = "import boto3; print(len(boto3.client('s3').list_objects_v2(Bucket='{}')['Contents']))"

    assert int(compose.run("exec", "-T", "mlflow", "python", "-c", look.format("mlflow"))) > 0
    assert int(compose.run("exec", "-T", "api", "python", "-c", look.format("cdm"))) > 0
    with pytest.raises(AssertionError, match="AccessDenied"):
        compose.run("exec", "-T", "mlflow", "python", "-c", look.format("cdm"))


def test_our_containers_run_as_nobody_in_particular_with_no_rights(compose: Compose) -> None:
    for name in _OURS:
        containers = compose.containers(name)
        assert containers, name
        for container in containers:
            assert inspect(container, "{{.Config.User}}") == "10001"
            assert json.loads(inspect(container, "{{json .HostConfig.CapDrop}}")) == ["ALL"]
            assert "no-new-privileges:true" in inspect(container, "{{json .HostConfig.SecurityOpt}}")
            assert json.loads(inspect(container, "{{.HostConfig.ReadonlyRootfs}}")) is not name.startswith("ray")


def test_no_secret_is_in_an_image_and_their_file_is_its_owners_alone(compose: Compose) -> None:
    secrets = {value for name, value in compose.secrets.items() if name.endswith(("KEY", "TOKEN", "PASSWORD"))}
    assert len(secrets) == 10
    assert (compose.folder / ".env").stat().st_mode & 0o777 == 0o600
    for target in ("service", "worker", "mlflow"):
        history = output_of("docker", "history", "--no-trunc", f"cdm-train/{target}:test")
        assert not any(secret in history for secret in secrets)
        assert inspect(f"cdm-train/{target}:test", "{{json .Config.Env}}").count("KEY") == 0


def test_secrets_are_made_once(compose: Compose) -> None:
    before = compose.secrets

    said = output_of("deploy/compose/init.sh", folder=compose.folder)

    assert "nothing was changed" in said
    assert compose.secrets == before


def test_without_secrets_nothing_starts_and_the_reason_says_what_makes_them(compose: Compose) -> None:
    command = "env -i PATH=$PATH HOME=/nowhere docker compose --env-file /dev/null up --detach"

    with pytest.raises(AssertionError, match=r"run deploy/compose/init\.sh first"):
        output_of("bash", "-c", command, folder=compose.folder)


def test_the_command_of_the_image_speaks_to_its_service(compose: Compose, succeeded: Job) -> None:
    listed = json.loads(compose.run("exec", "-T", "api", "cdm", "jobs", "--json"))
    well = compose.run("exec", "-T", "api", "cdm", "doctor")

    assert succeeded.id in [job["id"] for job in listed]
    assert "NOT OK" not in well


def test_prometheus_hears_of_the_service_and_of_every_node(compose: Compose) -> None:
    compose.run("up", "--detach", "--wait", "prometheus")
    ask = ("exec", "-T", "prometheus", "wget", "-qO-", "http://127.0.0.1:9090/api/v1/query?query=up")

    def heard() -> bool:
        found = json.loads(compose.run(*ask))["data"]["result"]
        up = Counter(one["metric"]["job"] for one in found if one["value"][1] == "1")
        return up == {"cdm-train": 1, "ray": 3}

    wait_until(heard, timeout_seconds=90)


def test_more_nodes_take_more_workers(compose: Compose, client: Client) -> None:
    compose.up("--scale", "ray-worker=4")
    job = ended(client, client.jobs.create(smoke_spec(compute={"workers": 4, "accelerator": "cpu"})))

    assert job.state is JobState.SUCCEEDED, job.message
    assert "of=4" in log_of(client, job)
    compose.up("--scale", "ray-worker=2")


def test_a_lost_database_is_put_back_as_the_documentation_says(
    compose: Compose, client: Client, succeeded: Job
) -> None:
    page = (compose.folder / "docs/operations.md").read_text()
    (dump,) = re.findall(r"`(docker compose exec -T postgres pg_dump .* > )FILE`", page)
    (script,) = [block for block in page.split("```") if "dropdb" in block]
    output_of("sh", "-ec", f"{dump} backup.dump", folder=compose.folder)
    later = ended(client, client.jobs.create(smoke_spec(seed=3)))

    script = re.sub(r"service-[\d-]+\.dump", "backup.dump", script).replace("--wait", "--wait --scale ray-worker=2")
    said = output_of("sh", "-ec", textwrap.dedent(script), folder=compose.folder)

    assert "restored 1 jobs" in said
    assert client.jobs.retrieve(succeeded.id).state is JobState.SUCCEEDED
    assert_nothing_is_lost(compose, client, client.jobs.retrieve(later.id))


def test_what_was_stopped_and_removed_knows_everything_when_it_is_started_again(
    compose: Compose, client: Client, succeeded: Job, summarize: Callable[[str], None]
) -> None:
    compose.run("down")
    seconds = compose.up("--scale", "ray-worker=2")
    summarize(f"docker compose up, with built images, to healthy: {seconds:.0f} s")

    found = client.jobs.retrieve(succeeded.id)
    assert found == succeeded
    assert_nothing_is_lost(compose, client, found)
    longer = client.jobs.fork(succeeded.id, overrides={"duration_images": 480}).job
    assert ended(client, longer).state is JobState.SUCCEEDED
    with httpx2.Client() as http:
        assert http.get(f"http://127.0.0.1:{compose.api_port}/readyz").status_code == 200
