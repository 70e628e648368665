"""The REST interface as a client without our SDK sees it."""

import json
import struct
import zipfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from service.app import create_app
from service.cluster import MemoryCluster
from tests.support.pictures import of_a_later_version, write_zip
from tests.support.plane import KEY, Served, Worker, eventually, running, served_in, settings_in
from workers.contract.keys import JobKeys
from workers.contract.presets import PRESETS
from workers.storage.memory import MemoryStore

SMOKE = PRESETS["smoke"].model_dump(mode="json")
PROBLEM = {"type", "title", "status", "detail", "instance", "code", "request_id", "errors"}


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[Served]:
    async with served_in(tmp_path) as served:
        yield served


def assert_problem(response: httpx2.Response, *, status: int, code: str) -> dict[str, Any]:
    body: dict[str, Any] = response.json()
    assert (response.status_code, body["status"], body["code"]) == (status, status, code)
    assert response.headers["Content-Type"] == "application/problem+json"
    assert response.headers["X-Request-Id"] == body["request_id"]
    assert set(body) >= PROBLEM
    return body


def pointers(body: dict[str, Any]) -> set[str]:
    return {error["pointer"] for error in body["errors"]}


async def submitted(served: Served, **fields: Any) -> str:
    response = await served.api.post("/v1/jobs", json={"spec": SMOKE, **fields})
    assert response.status_code == 201, response.text
    return str(response.json()["id"])


async def until_state(served: Served, job_id: str, state: str) -> dict[str, Any]:
    found: dict[str, Any] = {}

    async def reached() -> bool:
        found.update((await served.api.get(f"/v1/jobs/{job_id}")).json())
        return bool(found["state"] == state)

    await eventually(reached, what=f"{job_id} is {state}")
    return found


async def test_a_job_goes_from_submission_to_success_and_tells_how(served: Served) -> None:
    created = await served.api.post("/v1/jobs", json={"name": "first", "spec": SMOKE})
    assert created.status_code == 201
    job = created.json()
    assert created.headers["Location"] == f"/v1/jobs/{job['id']}" == job["links"]["self"]
    assert (job["state"], job["attempt"], job["progress"], job["spec"]) == ("queued", 0, None, SMOKE)
    assert json.loads(served.store.get(JobKeys(job["id"]).spec)) == SMOKE

    served.mlflow.runs["run1"] = "RUNNING"
    await until_state(served, job["id"], "starting")
    worker = Worker(served.store, job["id"])
    worker.progress(at=job["created_at"], images_seen=64)
    shown = await until_state(served, job["id"], "running")
    assert shown["progress"]["images_seen"] == 64
    assert shown["conditions"][0]["type"] == "BackendReachable"

    worker.outcome("succeeded", at=job["created_at"])
    ended = await until_state(served, job["id"], "succeeded")

    async def linked() -> bool:
        ended.update((await served.api.get(f"/v1/jobs/{job['id']}")).json())
        return ended["mlflow_url"] is not None

    await eventually(linked, what="the MLflow page is known")
    assert ended["mlflow_url"] == "http://mlflow.test/#/experiments/7/runs/run1?workflowType=machine_learning"
    events = (await served.api.get(f"/v1/jobs/{job['id']}/events", params={"after": 1})).json()
    assert [event["state"] for event in events["data"]] == ["starting", "running", "succeeded"]


async def test_what_the_engine_keeps_is_read_live_and_then_from_its_copy_at_the_same_offsets(served: Served) -> None:
    job_id = await submitted(served)
    url = f"/v1/jobs/{job_id}/logs?source=engine"
    assert (await served.api.get(url)).status_code == 200
    await until_state(served, job_id, "starting")

    async def printed() -> bool:
        return bool((await served.api.get(url)).json()["text"])

    await eventually(printed, what="the driver prints")
    live = (await served.api.get(url)).json()
    assert (live["attempt"], live["text"], live["complete"]) == (1, f"running {job_id}-a1\n", False)

    Worker(served.store, job_id).outcome("succeeded", at="2026-11-01T00:00:00Z")
    served.script.exit(f"{job_id}-a1", 0)

    async def copied() -> bool:
        return bool((await served.api.get(url)).json()["complete"])

    await eventually(copied, what="the log is copied")
    rest = (await served.api.get(f"{url}&attempt=1&offset={live['next_offset']}")).json()
    assert (rest["text"], rest["next_offset"], rest["complete"]) == ("", live["next_offset"], True)
    assert_problem(await served.api.get(f"{url}&attempt=2"), status=404, code="attempt_not_found")


async def test_what_workers_print_is_read_piece_by_piece_while_they_run(served: Served) -> None:
    job_id = await submitted(served)
    await until_state(served, job_id, "starting")
    url = f"/v1/jobs/{job_id}/logs"
    keys = JobKeys(job_id).attempt(1)
    served.store.put(keys.log_chunk("driver", 0), "erste Größe\n".encode())
    served.store.put(keys.log_chunk("rank-0000", 0), b"step 1\n")

    first = (await served.api.get(url)).json()
    served.store.put(keys.log_chunk("driver", first["next_offset"]), b"second\n")
    then = (await served.api.get(url, params={"offset": first["next_offset"]})).json()

    assert (first["text"], then["text"], then["complete"]) == ("erste Größe\n", "second\n", False)
    sources = (await served.api.get(f"{url}/sources")).json()
    assert [one["source"] for one in sources["data"]] == ["driver", "rank-0000"]
    assert (await served.api.get(url, params={"source": "rank-0000"})).json()["text"] == "step 1\n"


async def test_listing_pages_from_newest_to_oldest_without_gaps(served: Served) -> None:
    ids = [await submitted(served) for _ in range(5)]
    seen, cursor = [], None
    while True:
        params = {"limit": 2, **({"cursor": cursor} if cursor else {})}
        page = (await served.api.get("/v1/jobs", params=params)).json()
        seen += [job["id"] for job in page["data"]]
        cursor = page["next_cursor"]
        if not page["has_more"]:
            break

    assert seen == sorted(ids, reverse=True)
    queued = (await served.api.get("/v1/jobs", params={"state": "queued"})).json()["data"]
    assert {job["id"] for job in queued} < set(ids)


async def test_cancelling_works_once_and_again_while_it_lasts_and_not_after_the_end(tmp_path: Path) -> None:
    async with served_in(tmp_path, max_active_jobs=1) as served:
        first, second = await submitted(served), await submitted(served)
        await until_state(served, first, "starting")

        assert (await served.api.post(f"/v1/jobs/{second}/cancel")).json()["state"] == "cancelled"
        assert (await served.api.post(f"/v1/jobs/{first}/cancel")).status_code == 200
        await until_state(served, first, "cancelled")

        body = assert_problem(await served.api.post(f"/v1/jobs/{first}/cancel"), status=409, code="state_conflict")
        assert body["current_state"] == "cancelled"


async def test_only_whole_checkpoints_are_listed(served: Served) -> None:
    job_id = await submitted(served)
    keys = JobKeys(job_id)
    file = {"name": "model.safetensors", "num_bytes": 10, "sha256": "0" * 64}
    manifest = {"images_seen": 160, "attempt": 1, "spec_sha256": "0" * 64, "created_at": "2026-11-01T00:00:00Z"}
    whole = json.dumps({**manifest, "files": [file]}).encode()
    served.store.put(keys.checkpoint(160, 1) + "MANIFEST.json", whole)
    served.store.put(keys.checkpoint(160, 1) + "model.safetensors", b"0123456789")
    served.store.put(keys.checkpoint(320, 1) + "model.safetensors", b"not committed")
    served.store.put(keys.checkpoint(480, 1) + "MANIFEST.json", whole)  # its file is gone
    served.store.put(keys.checkpoint(640, 1) + "MANIFEST.json", b"{")

    found = (await served.api.get(f"/v1/jobs/{job_id}/checkpoints")).json()["data"]

    assert [(one["images_seen"], one["num_bytes"], one["files"]) for one in found] == [(160, 10, [file])]
    assert found[0]["uri"] == f"memory://plane/jobs/{job_id}/checkpoints/000000000160-0001/"


async def test_samples_are_listed_and_fetched_by_number_or_latest(served: Served) -> None:
    job_id = await submitted(served)
    url = f"/v1/jobs/{job_id}/samples"
    assert_problem(await served.api.get(f"{url}/latest"), status=404, code="sample_not_found")
    for images_seen in (160, 320):
        served.store.put(JobKeys(job_id).sample(images_seen), b"PNG %d" % images_seen)

    assert (await served.api.get(url)).json()["data"] == [160, 320]
    assert (await served.api.get(f"{url}/160")).content == b"PNG 160"
    latest = await served.api.get(f"{url}/latest")
    assert (latest.content, latest.headers["Content-Type"]) == (b"PNG 320", "image/png")
    assert_problem(await served.api.get(f"{url}/161"), status=404, code="sample_not_found")
    assert_problem(await served.api.get(f"{url}/newest"), status=422, code="validation_failed")


async def test_every_wrong_field_is_named_at_once(served: Served) -> None:
    wrong = {
        **SMOKE,
        "seed": "5",
        "colour": "red",
        "network": {**SMOKE["network"], "channels": 7},
        "dataset": {"kind": "folder", "path": "", "resolution": 2},
    }

    response = await served.api.post("/v1/jobs", json={"name": "", "spec": wrong, "priority": 1})

    body = assert_problem(response, status=422, code="validation_failed")
    assert pointers(body) == {
        "/name",
        "/priority",
        "/spec/seed",
        "/spec/colour",
        "/spec/network/channels",
        "/spec/dataset/path",
        "/spec/dataset/resolution",
    }
    assert body["instance"] == "/v1/jobs"


async def test_fields_that_contradict_each_other_are_named_too(served: Served) -> None:
    wrong = {**SMOKE, "batch_images": 15, "cadence": {"log_images": 1, "checkpoint_images": 1}}

    response = await served.api.post("/v1/jobs", json={"spec": wrong})

    body = assert_problem(response, status=422, code="validation_failed")
    assert pointers(body) == {"/spec/batch_images", "/spec/cadence/log_images", "/spec/cadence/checkpoint_images"}


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"{", 400, "malformed_json"),
        (b"", 422, "validation_failed"),
        (b"null", 422, "validation_failed"),
        (b"[]", 422, "validation_failed"),
        (b'{"spec": {"kind": "train"}}', 422, "validation_failed"),
        (b'{"spec": 3, "name": "\\ud800"}', 422, "validation_failed"),
        (b'{"spec": ' + b"[" * 900 + b"]" * 900 + b"}", 422, "validation_failed"),
        (b"\xff\xfe", 400, "malformed_json"),
    ],
)
async def test_a_body_that_is_no_job_is_a_problem_and_not_a_crash(
    served: Served, body: bytes, status: int, code: str
) -> None:
    response = await served.api.post("/v1/jobs", content=body, headers={"Content-Type": "application/json"})

    assert_problem(response, status=status, code=code)


@pytest.mark.parametrize(
    "path",
    [
        "/v1/jobs?limit=0",
        "/v1/jobs?limit=x",
        "/v1/jobs?state=happy",
        "/v1/jobs?created_after=5",
        "/v1/jobs?created_after=2026-11-01T00:00:00",
        "/v1/jobs?label=team",
        "/v1/jobs/{job_id}/events?after=-1",
        "/v1/jobs/{job_id}/events?after=99999999999999999999999",
        "/v1/jobs/{job_id}/logs?attempt=0",
        "/v1/jobs/{job_id}/logs?offset=-1",
        "/v1/jobs/{job_id}/logs?source=rank-1",
        "/v1/jobs/{job_id}/samples/99999999999999999999999",
    ],
)
async def test_wrong_parameters_are_problems(served: Served, path: str) -> None:
    url = path.format(job_id=await submitted(served))
    assert_problem(await served.api.get(url), status=422, code="validation_failed")


async def test_unknown_jobs_and_paths_and_methods_are_problems(served: Served) -> None:
    for path in ("", "/events", "/logs", "/checkpoints", "/samples", "/samples/latest"):
        assert_problem(await served.api.get(f"/v1/jobs/job_none{path}"), status=404, code="job_not_found")
    assert_problem(await served.api.post("/v1/jobs/job_none/cancel"), status=404, code="job_not_found")
    assert_problem(await served.api.get("/v2/jobs"), status=404, code="not_found")
    refused = await served.api.delete("/v1/jobs")
    assert_problem(refused, status=405, code="method_not_allowed")
    assert refused.headers["Allow"] == "GET, POST"


@pytest.mark.parametrize("header", [None, "", "Bearer", "Bearer wrong", f"Basic {KEY}", f"Bearer {KEY}x", "Bearer ü"])
async def test_nothing_but_health_and_documentation_is_served_without_the_key(tmp_path: Path, header: str) -> None:
    app = create_app(settings_in(tmp_path), cluster=MemoryCluster(), store=MemoryStore())
    async with running(app, key=None) as api:
        headers = {} if header is None else {b"Authorization": header.encode("latin-1")}

        for path in ("/v1/jobs", "/v1/presets", "/v1/jobs/job_1", "/nowhere"):
            refused = await api.get(path, headers=headers)
            assert_problem(refused, status=401, code="not_authenticated")
            assert KEY not in refused.text
        for path in ("/healthz", "/docs", "/openapi.json"):
            assert (await api.get(path, headers=headers)).status_code == 200


async def test_a_failure_of_ours_is_a_problem_with_the_request_id_and_no_detail(tmp_path: Path) -> None:
    class Broken(MemoryCluster):
        async def logs(self, submission_id: str) -> str:
            raise RuntimeError(f"secret {KEY}")

    cluster = Broken()
    app = create_app(settings_in(tmp_path), cluster=cluster, store=MemoryStore())
    async with running(app) as api:
        job_id = (await api.post("/v1/jobs", json={"spec": SMOKE})).json()["id"]

        async def has_begun() -> bool:
            return bool((await api.get(f"/v1/jobs/{job_id}")).json()["attempt"])

        await eventually(has_begun, what="the first attempt")
        response = await api.get(f"/v1/jobs/{job_id}/logs?source=engine", headers={"X-Request-Id": "mine-1"})

    assert assert_problem(response, status=500, code="internal")["request_id"] == "mine-1"
    assert "secret" not in response.text


async def test_a_store_that_is_down_refuses_the_job_and_leaves_none_behind(tmp_path: Path) -> None:
    class Down(MemoryStore):
        def put(self, key: str, data: bytes) -> None:
            raise ConnectionError("no route")

    app = create_app(settings_in(tmp_path), cluster=MemoryCluster(), store=Down())
    async with running(app) as api:
        assert_problem(await api.post("/v1/jobs", json={"spec": SMOKE}), status=503, code="storage_unavailable")

        assert (await api.get("/v1/jobs")).json()["data"] == []


async def test_a_data_set_that_is_not_there_or_holds_no_image_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "not.zip").write_bytes(b"PK")
    with zipfile.ZipFile(tmp_path / "texts.zip", "w") as archive:
        archive.writestr("readme.txt", "no image")
    (tmp_path / "good").mkdir()
    (tmp_path / "good" / "one.PNG").write_bytes(struct.pack("8s", b"\x89PNG"))
    wrong = [("folder", "nowhere"), ("folder", "empty"), ("folder", "not.zip"), ("zip", "nowhere.zip")]
    wrong += [("zip", "not.zip"), ("zip", "texts.zip"), ("zip", "good"), ("folder", "a\x00b")]
    wrong += [("cifar", "good"), ("npz", "nowhere.npz"), ("parquet", "nowhere"), ("webdataset", "nowhere.tar")]

    async with served_in(tmp_path / "state", local_paths=True) as served:

        async def posted(kind: str, path: str) -> httpx2.Response:
            dataset = {"kind": kind, "path": path}
            return await served.api.post("/v1/jobs", json={"spec": {**SMOKE, "dataset": dataset}})

        for kind, name in wrong:
            body = assert_problem(await posted(kind, str(tmp_path / name)), status=422, code="validation_failed")
            assert pointers(body) == {"/spec/dataset/path"}, (kind, name)
        assert pointers((await posted("folder", "good")).json()) == {"/spec/dataset/path"}
        for kind, name in (("folder", "good"), ("npz", "not.zip"), ("parquet", "good"), ("webdataset", "not.zip")):
            assert (await posted(kind, str(tmp_path / name))).status_code == 201


async def test_paths_that_are_too_long_and_archives_that_python_cannot_read_are_problems_of_their_field(
    tmp_path: Path,
) -> None:
    too_long = str(tmp_path / ("x" * 300))
    of_tomorrow = of_a_later_version(Path(write_zip(tmp_path / "a.zip", {"a.png": b""})))
    datasets = [{"kind": "folder", "path": too_long}, {"kind": "zip", "path": too_long}]
    datasets += [{"kind": "zip", "path": str(of_tomorrow)}]
    wrong = [("/spec/dataset/path", {"dataset": dataset}) for dataset in datasets]
    wrong += [("/spec/initial_weights", {"initial_weights": too_long})]

    async with served_in(tmp_path / "state", local_paths=True) as served:
        for pointer, changes in wrong:
            response = await served.api.post("/v1/jobs", json={"spec": {**SMOKE, **changes}})
            assert pointers(assert_problem(response, status=422, code="validation_failed")) == {pointer}


async def test_a_restarted_service_goes_on_where_it_was(tmp_path: Path) -> None:
    store, cluster = MemoryStore(), MemoryCluster()
    async with running(create_app(settings_in(tmp_path), cluster=cluster, store=store)) as api:
        job_id = (await api.post("/v1/jobs", json={"spec": SMOKE})).json()["id"]

        async def has_run() -> bool:
            return bool(cluster.submission_ids)

        await eventually(has_run, what="the submission")

    async with running(create_app(settings_in(tmp_path), cluster=cluster, store=store)) as api:
        Worker(store, job_id).outcome("succeeded", at="2026-11-01T00:00:00Z")

        async def succeeded() -> bool:
            return bool((await api.get(f"/v1/jobs/{job_id}")).json()["state"] == "succeeded")

        await eventually(succeeded, what="the job succeeds")

    assert cluster.submission_ids == [f"{job_id}-a1"]


async def test_every_route_is_described(served: Served) -> None:
    description = (await served.api.get("/openapi.json")).json()

    for path, methods in description["paths"].items():
        for method, operation in methods.items():
            assert operation["summary"], (method, path)
            assert path.startswith("/v1") <= ("401" in operation["responses"]), (method, path)
    assert set(description["components"]["schemas"]["ProblemDetails"]["properties"]) == PROBLEM
    text = json.dumps(description)
    for reference in {part.split('"')[0] for part in text.split("#/components/schemas/")[1:]}:
        assert reference in description["components"]["schemas"]
