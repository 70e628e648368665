"""The REST interface as a client without our SDK sees it."""

import json
from hashlib import sha256
from itertools import accumulate
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update

from service.app import create_app
from service.cluster import MemoryCluster
from service.database import open_database
from service.database.tables import jobs
from tests.support.kept import checkpoint
from tests.support.plane import Served, eventually, running, served_in, settings_in
from tests.support.problems import PROBLEM, assert_problem
from tests.support.submissions import SMOKE
from tests.support.worker import Worker
from workers.contract.keys import MANIFEST, JobKeys
from workers.storage.memory import MemoryStore


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


async def test_the_last_lines_of_a_log_are_read_without_its_beginning(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = await submitted(served)
    await until_state(served, job_id, "starting")
    url, keys = f"/v1/jobs/{job_id}/logs", JobKeys(job_id).attempt(1)
    lines = [f"Schritt {number} ä\n".encode() for number in range(50)]
    starts = list(accumulate(map(len, lines), initial=0))
    for start, line in zip(starts, lines, strict=False):
        served.store.put(keys.log_chunk("driver", start), line)
    read, get = list[str](), served.store.get

    def noted(key: str) -> bytes:
        read.append(key)
        return get(key)

    with monkeypatch.context() as watched:
        watched.setattr(served.store, "get", noted)
        tail = (await served.api.get(url, params={"tail": 3})).json()
    everything = (await served.api.get(url, params={"tail": 10_000})).json()

    assert tail["text"] == b"".join(lines[-3:]).decode()
    assert (tail["next_offset"], tail["complete"]) == (starts[-1], False)
    assert {key for key in read if "/logs/driver/" in key} <= {keys.log_chunk("driver", start) for start in starts[-9:]}
    assert everything["text"] == b"".join(lines).decode()
    assert (await served.api.get(url, params={"tail": 3, "source": "rank-0007"})).json()["text"] == ""
    served.store.delete(keys.log_chunk("driver", starts[-3]))  # as one that is still to come
    assert (await served.api.get(url, params={"tail": 2})).json()["text"] == b"".join(lines[-4:-2]).decode()


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


async def test_a_list_has_the_jobs_of_the_state_that_is_asked_for(tmp_path: Path) -> None:
    async with served_in(tmp_path, max_active_jobs=2) as served:
        ids = [await submitted(served) for _ in range(5)]
        for started in ids[:2]:
            await until_state(served, started, "starting")

        queued = (await served.api.get("/v1/jobs", params={"state": "queued"})).json()["data"]

    assert [job["id"] for job in queued] == sorted(ids[2:], reverse=True)


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
    checkpoint(served.store, job_id, 160, model=b"0123456789")
    served.store.put(JobKeys(job_id).checkpoint(320, 1) + "model.safetensors", b"not committed")
    without_file = checkpoint(served.store, job_id, 480, model=b"0123456789")
    served.store.delete(without_file + "model.safetensors")
    served.store.put(JobKeys(job_id).checkpoint(640, 1) + MANIFEST, b"{")
    file = {"name": "model.safetensors", "num_bytes": 10, "sha256": sha256(b"0123456789").hexdigest()}

    found = (await served.api.get(f"/v1/jobs/{job_id}/checkpoints")).json()["data"]

    assert [(one["images_seen"], one["num_bytes"], one["files"]) for one in found] == [(160, 10, [file])]
    assert found[0]["uri"] == f"memory://plane/jobs/{job_id}/checkpoints/000000000160-0001/"


async def test_samples_are_listed_and_fetched_by_number_or_latest(served: Served) -> None:
    job_id = await submitted(served)
    url = f"/v1/jobs/{job_id}/samples"
    assert_problem(await served.api.get(f"{url}/latest"), status=404, code="sample_not_found")
    for images_seen in (160, 320):
        served.store.put(JobKeys(job_id).sample(images_seen), b"PNG %d" % images_seen)

    assert (await served.api.get(url)).json()["data"] == [{"images_seen": 160}, {"images_seen": 320}]
    assert (await served.api.get(f"{url}/160")).content == b"PNG 160"
    latest = await served.api.get(f"{url}/latest")
    assert (latest.content, latest.headers["Content-Type"]) == (b"PNG 320", "image/png")
    assert_problem(await served.api.get(f"{url}/161"), status=404, code="sample_not_found")
    assert_problem(await served.api.get(f"{url}/newest"), status=422, code="validation_failed")


async def test_a_restarted_service_goes_on_where_it_was(tmp_path: Path) -> None:
    store, cluster = MemoryStore(), MemoryCluster()
    async with running(create_app(settings_in(tmp_path), cluster=cluster, object_store=store)) as api:
        job_id = (await api.post("/v1/jobs", json={"spec": SMOKE})).json()["id"]

        async def has_run() -> bool:
            return bool(cluster.submission_ids)

        await eventually(has_run, what="the submission")

    async with running(create_app(settings_in(tmp_path), cluster=cluster, object_store=store)) as api:
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
    assert set(description["components"]["schemas"]["ProblemDetails"]["required"]) == PROBLEM
    text = json.dumps(description)
    for reference in {part.split('"')[0] for part in text.split("#/components/schemas/")[1:]}:
        assert reference in description["components"]["schemas"]


async def test_labels_that_the_service_decides_by_are_not_for_others_to_give(served: Served) -> None:
    job_id = await submitted(served)
    labels = {"labels": {"team": "vision", "cdm.evaluates": job_id}}
    images = {"dataset": {"kind": "zip", "path": "/data/faces.zip", "resolution": 32}}

    for path, body in (("jobs", {"spec": SMOKE}), (f"jobs/{job_id}/fork", {}), ("datasets", images)):
        refused = await served.api.post(f"/v1/{path}", json=body | labels)
        assert_problem(refused, status=422, code="validation_failed")
        assert [(one["pointer"], one["code"]) for one in refused.json()["errors"]] == [
            ("/labels/cdm.evaluates", "reserved")
        ]


async def test_a_job_that_a_later_release_took_is_shown_by_every_route_as_it_was_written(tmp_path: Path) -> None:
    """While replicas are replaced one by one, or after a step back."""
    foreign = SMOKE | {"optimizer": SMOKE["optimizer"] | {"of_tomorrow": 1.5}}
    evaluations = {"num_images": 1000, "of_tomorrow": True}
    store, settings = MemoryStore(), {"max_active_jobs": 0}
    async with served_in(tmp_path, store=store, **settings) as served:
        job = f"/v1/jobs/{await submitted(served)}"
    async with (
        open_database(settings_in(tmp_path).database_url) as database,
        database.writing() as connection,
    ):
        await connection.execute(update(jobs).values(spec=json.dumps(foreign), evaluations=json.dumps(evaluations)))

    async with served_in(tmp_path, store=store, **settings) as served:
        answers = [await served.api.get(job), await served.api.patch(job, json={"name": "new"})]
        verbs = ("pause", "resume", "cancel", "archive", "restore")
        answers += [await served.api.post(f"{job}/{verb}") for verb in verbs]
        listed = (await served.api.get("/v1/jobs")).json()["data"]
        forked = await served.api.post(f"{job}/fork", json={"overrides": {"seed": 7}})

    assert [answer.status_code for answer in answers] == [200] * 7
    assert (forked.status_code, forked.json()["code"]) == (409, "state_conflict")
    assert "/optimizer/of_tomorrow" in forked.json()["detail"]
    assert [answer.headers["ETag"] for answer in answers] == [f'"{number}"' for number in range(1, 8)]
    for shown in (*(answer.json() for answer in answers), *listed):
        assert (shown["spec"], shown["evaluations"]) == (foreign, evaluations)
