"""An MLflow with a login is told the same by the API and by jobs, each by its own names."""

import pytest

from tests.support.chart import pods, rendered


@pytest.mark.parametrize(
    ("login", "parts"),
    [
        ("", {}),
        ("token", {"TOKEN": "mlflow-token"}),
        ("password", {"USERNAME": "mlflow-username", "PASSWORD": "mlflow-password"}),
    ],
)
def test_both_sides_log_in(login: str, parts: dict[str, str]) -> None:
    values = {"mlflow.bundled": False, "mlflow.url": "https://mlflow.example.org", "mlflow.login": login}
    containers = {
        name: pod["spec"]["containers"][0]["env"] for name, pod in pods(rendered("production", **values)).items()
    }

    assert containers.keys() == {"api", "ray-head", "ray-cpu", "ray-h100"}
    for name, environment in containers.items():
        prefix = "CDM_MLFLOW_" if name == "api" else "MLFLOW_TRACKING_"
        keys = {one["name"]: one["valueFrom"]["secretKeyRef"]["key"] for one in environment if "valueFrom" in one}
        logins = {key: value for key, value in keys.items() if key.startswith(("CDM_MLFLOW_", "MLFLOW_TRACKING_"))}
        assert logins == {f"{prefix}{part}": key for part, key in parts.items()}
