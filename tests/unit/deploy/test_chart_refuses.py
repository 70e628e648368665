"""What is wrong with values is said before anything is made, in words that name it."""

import json
from typing import Any

import pytest

from tests.support.chart import CHART, helm, path_of, rendered


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"api.replica": 3}, "'replica' not allowed"),
        ({"api.replicas": 0}, "at '/api/replicas'"),
        ({"api.settings": {"MAX_ACTIVE_JOBS": "32"}}, "'MAX_ACTIVE_JOBS' does not match"),
        ({"api.settings": {"CDM_MAX_ACTIVE_JOBS": 32}}, "got number, want string"),
        ({"images.service.tag": "latest"}, "at '/images/service/tag'"),
        ({"mlflow.url": "mlflow:5000"}, "at '/mlflow/url'"),
        ({"s3.publicUrl": "s3:8333"}, "at '/s3/publicUrl'"),
        ({"ray.workers": [{"name": "gpu"}]}, "missing properties"),
        ({"ray.workers": [{"name": "gpu", "resources": {"memory": "8Gi"}}]}, "'memory' does not match"),
        ({"ray.autoscaling.enable": True}, "'enable' not allowed"),
        ({"networkPolicy.to.s3": [{"cidr": "10.0.0.0/8"}]}, "'cidr' not allowed"),
        ({"database.bundled": False}, "secrets.existingSecret"),
        ({"s3.bundled": False}, "secrets.existingSecret"),
        ({"ray.bundled": False}, "ray.url"),
        ({"ray.bundled": False, "ray.url": "http://head:8265"}, "secrets.existingSecret"),
        (
            {
                "ray.bundled": False,
                "ray.url": "http://head:8265",
                "secrets.existingSecret": "mine",
                "monitoring.podMonitor": True,
            },
            "monitoring.podMonitor",
        ),
        ({"mlflow.bundled": False}, "mlflow.url"),
        ({"mlflow.login": "token"}, "mlflow.login: the bundled MLflow has none"),
        ({"mlflow.login": "none"}, "at '/mlflow/login'"),
        ({"ingress.enabled": True}, "ingress.host"),
        (
            {"ray.workers": [{"name": "gpu", "minReplicas": 0, "maxReplicas": 1, "cpus": 1, "memory": "8Gi"}]},
            "replicas of gpu in ray.workers: how many",
        ),
    ],
    ids=str,
)
def test_refused(values: dict[str, Any], reason: str) -> None:
    sets = [f"--set-json={name}={json.dumps(value)}" for name, value in values.items()]

    answer = helm("template", "cdm-train", CHART, "--values", path_of("trial"), *sets)

    assert answer.returncode != 0
    assert reason in answer.stderr


def test_with_nothing_said_the_chart_asks_for_credentials() -> None:
    answer = helm("template", "cdm-train", CHART)

    assert answer.returncode != 0
    assert "secrets.existingSecret: Postgres or S3 of your own needs a Secret" in answer.stderr


def test_a_secret_is_made_only_where_none_is_named() -> None:
    assert [one["kind"] for one in rendered("trial")].count("Secret") == 1
    assert [one["kind"] for one in rendered("production")].count("Secret") == 0


def test_no_secret_is_told_after_an_installation() -> None:
    release = _installed()

    assert "api-key" in release["info"]["notes"]
    assert "cdm_sk_" in release["manifest"]
    assert "cdm_sk_" not in release["info"]["notes"]


def test_links_that_only_pods_can_follow_are_told_after_an_installation() -> None:
    told, untold = _installed("--set=s3.publicUrl="), _installed()

    assert "lead to http://cdm-train-s3:8333, which only pods reach" in told["info"]["notes"]
    assert "s3.publicUrl" not in untold["info"]["notes"]


def test_that_jobs_cannot_fetch_images_is_told_after_an_installation() -> None:
    closed, opened = _installed(), _installed("--set=networkPolicy.jobsToInternet=true")

    assert "set networkPolicy.jobsToInternet" in closed["info"]["notes"]
    assert "jobsToInternet" not in opened["info"]["notes"]


def _installed(*sets: str) -> dict[str, Any]:
    arguments = ("install", "cdm-train", CHART, "--values", path_of("trial"), "--dry-run=client", "--output", "json")
    answer = helm(*arguments, *sets)
    assert answer.returncode == 0, answer.stderr
    release: dict[str, Any] = json.loads(answer.stdout)
    return release
