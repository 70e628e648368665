"""What the control plane makes of MLflow's answers."""

import httpx2
import pytest

from service.errors import MlflowUnavailable
from service.mlflow import Mlflow

ODD = {"key": "odd", "value": 1.0, "timestamp": -1, "step": 3}  # as somebody may have logged it into our run


def mlflow() -> Mlflow:
    run = {"info": {"run_id": "run1", "experiment_id": "7"}, "data": {"metrics": [ODD], "tags": []}}
    answers = {"runs/get": {"run": run}, "metrics/get-history": {"metrics": [ODD]}, "runs/log-batch": {}}
    return Mlflow(
        "http://mlflow.test",
        transport=httpx2.MockTransport(
            lambda request: httpx2.Response(200, json=answers[request.url.path.removeprefix("/api/2.0/mlflow/")])
        ),
    )


async def test_an_odd_value_in_a_run_keeps_nobody_from_its_page_its_tags_and_its_steps() -> None:
    client = mlflow()

    assert await client.experiment_of("run1") == "7"
    assert await client.run_of("job_1", "s3://cdm", known="run1") == "run1"
    assert [page async for page in client.steps("run1", "odd")] == [[3]]
    await client.describe_run("run1", {"cdm.project": "default"})


async def test_a_value_of_no_time_is_not_shown() -> None:
    with pytest.raises(MlflowUnavailable, match="ValidationError"):
        await mlflow().latest("run1")
