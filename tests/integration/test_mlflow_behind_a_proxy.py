"""MLflow's pages work by the address that users have of it, and those of other places do not."""

from pathlib import Path

import httpx2
import pytest

from tests.support.chart import pods, rendered
from tests.support.mlflow_server import mlflow_server
from tests.support.ray_head import free_ports

HOST = "mlflow.example.org"
SEARCH = "/ajax-api/2.0/mlflow/runs/search"


def test_its_own_pages_may_post_and_those_of_others_may_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    documents = rendered("production")
    (container,) = pods(documents)["mlflow"]["spec"]["containers"]
    environment = {one["name"]: one["value"] for one in container["env"] if one["name"].startswith("MLFLOW_SERVER_")}
    # The server is asked by this address, too, whether it is there.
    environment["MLFLOW_SERVER_ALLOWED_HOSTS"] += ",127.0.0.1:*"
    for name, value in environment.items():
        monkeypatch.setenv(name, value)

    with mlflow_server(tmp_path, free_ports(1)[0]) as url:

        def answer_to(origin: str) -> httpx2.Response:
            headers = {"Host": HOST, "Origin": origin}
            return httpx2.post(url + SEARCH, json={"experiment_ids": ["0"]}, headers=headers, timeout=30)

        own, foreign = answer_to(f"https://{HOST}"), answer_to("https://elsewhere.example.org")

    assert own.status_code == 200
    assert own.headers["access-control-allow-origin"] == f"https://{HOST}"
    assert (foreign.status_code, foreign.text) == (403, "Cross-origin request blocked")
