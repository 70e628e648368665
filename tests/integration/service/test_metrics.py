"""Curves by REST from a real MLflow server, with points that MLflow's own client logged."""

import math
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Any

import httpx2
import pytest
from fastapi import FastAPI
from mlflow import MlflowClient
from mlflow.entities import Metric

from service.errors import JobNotFound
from service.jobs.records import JobRecord
from service.metrics.routes import router
from service.metrics.usecases import Metrics
from service.mlflow import Mlflow
from service.web.principal import Principal
from service.web.problems import install_problems
from service.web.views import Scope
from tests.support.jobs import job
from tests.support.mlflow_server import mlflow_server
from tests.support.ray_head import free_ports

POINTS, PAGE = 2600, 1000
TIME_MS = 1_700_000_000_000


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with mlflow_server(tmp_path_factory.mktemp("mlflow"), free_ports(1)[0]) as url:
        yield url


def log(client: MlflowClient, run_id: str, key: str, points: list[tuple[int, float, int]]) -> None:
    """(images seen, value, seconds)."""
    metrics = [Metric(key, value, TIME_MS + 1000 * seconds, step) for step, value, seconds in points]
    for first in range(0, len(metrics), 1000):
        client.log_batch(run_id, metrics=metrics[first : first + 1000])


@pytest.fixture(scope="module")
def run_id(server: str) -> str:
    client = MlflowClient(server)
    run = str(client.create_run(client.create_experiment("curves")).info.run_id)
    log(client, run, "loss/dsm", [(64 * index, math.sin(index / 100), index) for index in range(POINTS)])
    log(
        client,
        run,
        "resumed",
        [(64, 1.0, 1), (128, 2.0, 2), (192, 3.0, 3), (128, 2.5, 4), (192, 3.5, 5), (256, 4.0, 6)],
    )
    log(client, run, "broken", [(0, 1.0, 0), (64, math.nan, 1), (128, math.inf, 2), (192, -math.inf, 3)])
    return run


@dataclass(frozen=True)
class Ours:
    """The jobs of a project, with their runs."""

    runs: dict[str, str | None]

    async def get(self, job_id: str, *, project: str) -> JobRecord:
        if project != "ours" or job_id not in self.runs:
            raise JobNotFound(f"there is no job {job_id!r}")
        return job(id=job_id, mlflow_run_id=self.runs[job_id])


async def client_of(url: str, runs: dict[str, str | None]) -> AsyncIterator[httpx2.AsyncClient]:
    mlflow = Mlflow(url, page_size=PAGE)
    app = FastAPI()
    install_problems(app)
    app.include_router(router)
    principal = Principal(id="key_1", project="ours", scopes=frozenset({Scope.READ}))

    async def with_state(scope: Any, receive: Any, send: Any) -> None:
        state = {"job_lookup": Ours(runs), "metrics": Metrics(mlflow=mlflow), "principal": principal}
        await app({**scope, "state": state}, receive, send)

    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(with_state), base_url="http://cdm.test") as client:
        yield client
    await mlflow.close()


@pytest.fixture
async def api(server: str, run_id: str) -> AsyncIterator[httpx2.AsyncClient]:
    async for client in client_of(server, {"job_1": run_id, "job_new": None, "job_lost": "0" * 32}):
        yield client


async def series(api: httpx2.AsyncClient, query: str) -> list[dict[str, Any]]:
    response = await api.get(f"/v1/jobs/job_1/metrics?{query}")
    assert response.status_code == 200, response.text
    found: list[dict[str, Any]] = response.json()["data"]
    return found


async def test_without_keys_all_keys_come_with_their_latest_values(api: httpx2.AsyncClient) -> None:
    found = {one["key"]: one for one in await series(api, "")}

    assert list(found) == ["broken", "loss/dsm", "resumed"]
    assert found["loss/dsm"]["latest"]["images_seen"] == 64 * (POINTS - 1)
    assert found["resumed"]["latest"] == {"images_seen": 256, "value": 4.0, "time": "2023-11-14T22:13:26Z"}
    assert all(one["points"] == [] for one in found.values())


async def test_a_long_curve_is_read_whole_and_comes_down_sampled(api: httpx2.AsyncClient) -> None:
    (found,) = await series(api, "keys=loss/dsm&max_points=100")

    assert len(found["points"]) == 100
    assert [found["points"][end]["images_seen"] for end in (0, -1)] == [0, 64 * (POINTS - 1)]
    assert all(point["value"] == math.sin(point["images_seen"] / 6400) for point in found["points"])
    assert found["latest"] == found["points"][-1]
    (default,) = await series(api, "keys=loss/dsm")
    assert len(default["points"]) == 500


async def test_a_range_is_inclusive_and_down_sampled_by_itself(api: httpx2.AsyncClient) -> None:
    (found,) = await series(api, "keys=loss/dsm&from=640&to=768")

    assert [point["images_seen"] for point in found["points"]] == [640, 704, 768]
    assert await series(api, "keys=loss/dsm&from=768&to=640") == [{**found, "points": []}]


async def test_steps_that_were_repeated_after_a_resume_come_once_with_the_later_value(api: httpx2.AsyncClient) -> None:
    (found,) = await series(api, "keys=resumed")

    assert [(point["images_seen"], point["value"]) for point in found["points"]] == [
        (64, 1.0),
        (128, 2.5),
        (192, 3.5),
        (256, 4.0),
    ]


async def test_what_is_not_a_number_is_null(api: httpx2.AsyncClient) -> None:
    (found,) = await series(api, "keys=broken")

    assert [point["value"] for point in found["points"]] == [1.0, None, None, None]


async def test_several_keys_come_in_the_order_asked_for_and_once_each(api: httpx2.AsyncClient) -> None:
    found = await series(api, "keys=resumed,no such,broken,resumed&max_points=3")

    assert [one["key"] for one in found] == ["resumed", "no such", "broken"]
    assert [len(one["points"]) for one in found] == [3, 0, 3]
    assert found[1]["latest"] is None


async def test_a_job_that_has_not_begun_has_no_curves(api: httpx2.AsyncClient) -> None:
    assert (await api.get("/v1/jobs/job_new/metrics")).json() == {"data": []}
    assert (await api.get("/v1/jobs/job_new/metrics?keys=a")).json() == {
        "data": [{"key": "a", "latest": None, "points": []}]
    }


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("job_unknown/metrics", 404, "job_not_found"),
        ("job_lost/metrics", 503, "metrics_unavailable"),
        ("job_lost/metrics?keys=a", 503, "metrics_unavailable"),
        ("job_1/metrics?keys=", 422, "validation_failed"),
        ("job_1/metrics?keys=a,,b", 422, "validation_failed"),
        ("job_1/metrics?keys=a%00", 422, "validation_failed"),
        (f"job_1/metrics?keys={','.join(map(str, range(21)))}", 422, "validation_failed"),
        ("job_1/metrics?keys=a&max_points=2", 422, "validation_failed"),
        ("job_1/metrics?keys=a&max_points=5001", 422, "validation_failed"),
        ("job_1/metrics?keys=a&from=-1", 422, "validation_failed"),
        (f"job_1/metrics?keys=a&to={2**63}", 422, "validation_failed"),
    ],
)
async def test_what_cannot_be_answered_is_a_problem(api: httpx2.AsyncClient, path: str, status: int, code: str) -> None:
    response = await api.get(f"/v1/jobs/{path}")

    assert (response.status_code, response.json()["code"]) == (status, code)
    assert response.headers["content-type"] == "application/problem+json"
    assert ("retry-after" in response.headers) == (status == 503)


async def test_an_mlflow_that_is_down_is_a_problem_that_passes() -> None:
    async for api in client_of(f"http://127.0.0.1:{free_ports(1)[0]}", {"job_1": "run", "job_new": None}):
        response = await api.get("/v1/jobs/job_1/metrics?keys=loss/dsm")
        assert (response.status_code, response.json()["code"]) == (503, "metrics_unavailable")
        assert (await api.get("/v1/jobs/job_new/metrics")).status_code == 200
