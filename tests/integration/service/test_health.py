"""What anybody may ask: whether the service is well, and its metrics."""

import asyncio
from pathlib import Path
from typing import Any

import httpx2

from service.app import create_app
from service.cluster import MemoryCluster
from tests.support.fake_mlflow import FakeMlflow
from tests.support.plane import Served, eventually, running, served_in, settings_in
from workers.contract.presets import PRESETS
from workers.storage.memory import MemoryStore


async def unready(served: Served) -> dict[str, Any]:
    """What `/readyz` says once it has noticed."""
    answers: list[httpx2.Response] = []

    async def noticed() -> bool:
        answers.append(await served.api.get("/readyz"))
        return answers[-1].status_code == 503

    await eventually(noticed, what="it is not ready")
    return dict(answers[-1].json())


async def test_readiness_names_what_is_missing_and_tells_strangers_no_more_than_the_kind(served: Served) -> None:
    assert (await served.api.get("/readyz")).status_code == 200

    served.cluster.reachable = False
    served.mlflow.down = True
    body = await unready(served)

    assert not body["ready"]
    missing = {name: one["detail"] for name, one in body["dependencies"].items() if not one["ready"]}
    assert missing == {"ray": "ClusterUnreachable", "mlflow": "MlflowUnavailable"}
    assert (await served.api.get("/healthz")).status_code == 200


async def test_the_store_of_another_installation_is_named(tmp_path: Path) -> None:
    async with served_in(tmp_path) as served:
        assert (await served.api.get("/readyz")).status_code == 200
        spec = PRESETS["smoke"].model_dump(mode="json")
        assert (await served.api.post("/v1/jobs", json={"spec": spec})).status_code == 201

    async with served_in(tmp_path, store=MemoryStore()) as elsewhere:
        found = (await unready(elsewhere))["dependencies"]["object_store"]

    assert found == {"ready": False, "detail": "StoreOfAnotherInstallation"}


async def test_a_store_that_overwrites_what_may_be_written_once_is_named(tmp_path: Path) -> None:
    class Heedless(MemoryStore):
        def put_if_absent(self, key: str, data: bytes) -> bool:
            self.put(key, data)
            return True

    async with served_in(tmp_path, store=Heedless()) as served:
        found = (await unready(served))["dependencies"]["object_store"]

    assert found == {"ready": False, "detail": "StoreWithoutConditions"}


async def test_however_many_ask_everything_that_is_needed_is_asked_once(tmp_path: Path) -> None:
    class Counted(FakeMlflow):
        asked = 0

        def __call__(self, request: httpx2.Request) -> httpx2.Response:
            self.asked += 1
            return super().__call__(request)

    mlflow = Counted()
    app = create_app(settings_in(tmp_path), cluster=MemoryCluster(), object_store=MemoryStore(), mlflow=mlflow.client())
    async with running(app, key=None) as api:
        answers = await asyncio.gather(*(api.get(path) for path in ("/readyz", "/metrics") * 20))

    assert {answer.status_code for answer in answers} == {200}
    assert mlflow.asked == 1
    assert 'cdm_dependency_up{dependency="mlflow"} 1.0' in answers[1].text
