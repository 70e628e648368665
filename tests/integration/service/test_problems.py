"""What is wrong with a request, and failures of our own, as a client without our SDK sees them."""

import struct
import zipfile
from pathlib import Path
from typing import Any

import httpx2
import pytest

from service.app import create_app
from service.cluster import MemoryCluster
from tests.support.pictures import of_a_later_version, write_zip
from tests.support.plane import KEY, Served, eventually, running, served_in, settings_in
from tests.support.problems import assert_problem, pointers
from tests.support.submissions import SMOKE, trained
from workers.storage.memory import MemoryStore


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


@pytest.mark.parametrize(
    "wrong",
    [
        {"spec": {**SMOKE, **{f"field{number}": 1 for number in range(1001)}}},
        {"labels": {f"label{number}~": "" for number in range(1001)}},
    ],
)
async def test_of_very_many_wrong_fields_the_first_are_named_and_the_others_counted(
    served: Served, wrong: dict[str, Any]
) -> None:
    response = await served.api.post("/v1/jobs", json={"spec": SMOKE, **wrong})

    body = assert_problem(response, status=422, code="validation_failed")
    assert body["detail"] == "1001 fields are wrong"
    assert len(body["errors"]) == 101
    assert body["errors"][-1] == {"pointer": "", "code": "more_problems", "message": "and 901 more; mend these first"}


@pytest.mark.parametrize(
    ("path", "wrong", "pointer"),
    [
        ("/v1/jobs", {"spec": SMOKE, "evaluations": {"classes": [1] + [-1] * 1000}}, "/evaluations/classes/1"),
        ("/v1/jobs", {"spec": SMOKE, "evaluations": {"timeline_steps": [1] * 1000}}, "/evaluations/timeline_steps/0"),
        (
            "/v1/jobs",
            {"spec": {**SMOKE, "network": {**SMOKE["network"], "attention_resolutions": [0] * 1000}}},
            "/spec/network/attention_resolutions/0",
        ),
        ("/v1/webhooks", {"url": "https://example.org", "event_types": ["sometimes"] * 1000}, "/event_types/0"),
    ],
)
async def test_of_a_list_the_first_wrong_item_is_named(
    served: Served, path: str, wrong: dict[str, Any], pointer: str
) -> None:
    response = await served.api.post(path, json=wrong)

    assert pointers(assert_problem(response, status=422, code="validation_failed")) == {pointer}


async def test_of_the_overrides_of_a_fork_likewise(served: Served) -> None:
    parent = await trained(served, (100, 1))

    response = await served.api.post(
        f"/v1/jobs/{parent}/fork", json={"overrides": {f"field{number}": 1 for number in range(101)}}
    )

    body = assert_problem(response, status=422, code="validation_failed")
    assert len(body["errors"]) == 101
    assert body["errors"][-1]["message"] == "and 1 more; mend these first"


async def test_of_very_many_unknown_parameters_the_first_are_named(served: Served) -> None:
    response = await served.api.get("/v1/jobs", params={f"p{number}": "" for number in range(1001)})

    body = assert_problem(response, status=422, code="validation_failed")
    *named, others = body["errors"]
    assert [error["pointer"] for error in named] == [f"/query/p{number}" for number in range(100)]
    assert others["message"] == "and 901 more; mend these first"


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


@pytest.mark.parametrize("path", ["/v1/jobs", "/v1/jobs/{job_id}/cancel"])
@pytest.mark.parametrize("called", [None, "application/x-www-form-urlencoded", "text/plain"])
async def test_a_body_that_is_not_called_json_is_a_problem_that_says_what_to_call_it(
    served: Served, path: str, called: str | None
) -> None:
    job = (await served.api.post("/v1/jobs", json={"spec": SMOKE})).json()
    headers = {"Content-Type": called} if called else {}

    response = await served.api.post(path.format(job_id=job["id"]), content=b'{"mode": "now"}', headers=headers)

    [error] = assert_problem(response, status=422, code="validation_failed")["errors"]
    assert error == {
        "pointer": "",
        "code": "content_type",
        "message": "send it with the header Content-Type: application/json",
    }


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
        "/v1/jobs/{job_id}/logs?tail=0",
        "/v1/jobs/{job_id}/logs?tail=10001",
        "/v1/jobs/{job_id}/samples/99999999999999999999999",
    ],
)
async def test_wrong_parameters_are_problems(served: Served, path: str) -> None:
    job = (await served.api.post("/v1/jobs", json={"spec": SMOKE})).json()

    assert_problem(await served.api.get(path.format(job_id=job["id"])), status=422, code="validation_failed")


@pytest.mark.parametrize(
    ("method", "path", "meant"),
    [
        ("POST", "/v1/jobs?dryrun=true", "; did you mean dry_run?"),
        ("GET", "/v1/jobs?lable=try=1", "; did you mean label?"),
        ("GET", "/v1/jobs?all_project=true", "; did you mean all_projects?"),
        ("GET", "/v1/jobs/{job_id}/metrics?form=3", "; did you mean from?"),
        ("GET", "/v1/jobs/{job_id}/events/stream?aftr=1", "; did you mean after?"),
        ("DELETE", "/v1/jobs/{job_id}?purged=logs", "; did you mean purge?"),
        ("POST", "/v1/jobs/{job_id}/cancel?mode=now", ""),
    ],
)
async def test_a_parameter_that_the_path_does_not_have_is_a_problem(
    served: Served, method: str, path: str, meant: str
) -> None:
    job = (await served.api.post("/v1/jobs", json={"spec": SMOKE})).json()
    name = path.partition("?")[2].partition("=")[0]

    response = await served.api.request(method, path.format(job_id=job["id"]), json={"spec": SMOKE})

    [error] = assert_problem(response, status=422, code="validation_failed")["errors"]
    assert error["pointer"] == f"/query/{name}"
    assert error["message"] == f"unknown parameter{meant}"
    assert len((await served.api.get("/v1/jobs")).json()["data"]) == 1


async def test_no_route_takes_a_parameter_that_its_description_lacks(served: Served) -> None:
    described = (await served.api.get("/openapi.json")).json()["paths"]
    paths = [(verb.upper(), path) for path, verbs in described.items() if path.startswith("/v1/") for verb in verbs]
    assert len(paths) > 50

    for verb, path in paths:
        response = await served.api.request(verb, path, params={"no_such": "1", "limit": "5"})
        body = assert_problem(response, status=422, code="validation_failed")
        assert "/query/no_such" in pointers(body), (verb, path)
        takes_limit = any(one["name"] == "limit" for one in described[path][verb.lower()].get("parameters", ()))
        assert ("/query/limit" in pointers(body)) is not takes_limit, (verb, path)


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
    app = create_app(settings_in(tmp_path), cluster=MemoryCluster(), object_store=MemoryStore())
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
    app = create_app(settings_in(tmp_path), cluster=cluster, object_store=MemoryStore())
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

    app = create_app(settings_in(tmp_path), cluster=MemoryCluster(), object_store=Down())
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
