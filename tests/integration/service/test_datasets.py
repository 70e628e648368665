"""Image sets of a project: what its jobs have brought, and how that is shown."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.support.imported import AT, IMPORT, ONE, OTHER, bring
from tests.support.plane import Served, eventually, served_in
from tests.support.problems import code
from tests.support.submissions import SMOKE
from tests.support.worker import Worker
from workers.contract.keys import MANIFEST, dataset_folder

ELSEWHERE = {"Cdm-Project": "other"}


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[Served]:
    async with served_in(tmp_path) as served:
        assert (await served.api.post("/v1/projects", json={"name": "other"})).status_code == 201
        yield served


async def ended(served: Served, spec: dict[str, Any], digest: str, *, name: str | None = None, **headers: str) -> str:
    """A job that has succeeded and brought an image set."""
    answer = await served.api.post("/v1/jobs", json={"spec": spec, "name": name}, headers=headers)
    assert answer.status_code == 201, answer.text
    job_id = str(answer.json()["id"])
    bring(served.store, job_id, digest, report=spec["kind"] == "import")
    Worker(served.store, job_id).outcome("succeeded", at=AT)

    async def has_ended() -> bool:
        job = await served.api.get(f"/v1/jobs/{job_id}", headers=headers)
        return bool(job.json()["state"] == "succeeded")

    await eventually(has_ended, what=f"{job_id} has ended")
    return job_id


async def listed(api: httpx2.AsyncClient, **headers: str) -> list[str]:
    answer = await api.get("/v1/datasets", headers=headers)
    assert answer.status_code == 200, answer.text
    return [one["digest"] for one in answer.json()["data"]]


async def test_what_was_imported_is_listed_newest_first_as_soon_as_its_job_has_ended(served: Served) -> None:
    first = await ended(served, IMPORT, ONE, name="faces")
    second = await ended(served, IMPORT, OTHER)

    [newest, oldest] = (await served.api.get("/v1/datasets")).json()["data"]

    assert (newest["digest"], newest["import_job_id"]) == (OTHER, second)
    assert oldest["imported_at"]
    assert {name: oldest[name] for name in ("digest", "name", "import_job_id", "num_classes", "num_bytes")} == {
        "digest": ONE,
        "name": "faces",
        "import_job_id": first,
        "num_classes": 2,
        "num_bytes": 3 * (8 * 8 + 4),
    }
    assert (await served.api.get(f"/v1/jobs/{first}")).json()["dataset_digest"] == ONE


async def test_one_is_shown_with_its_classes_what_was_left_out_and_a_preview(served: Served) -> None:
    await ended(served, IMPORT, ONE)

    shown = (await served.api.get(f"/v1/datasets/{ONE}")).json()

    assert shown["classes"] == [{"name": "cat", "num_images": 2}, {"name": "dog", "num_images": 1}]
    assert (shown["num_left_out"], shown["left_out"]) == (1, {"bad.png": "is no image"})
    assert shown["num_ignored_files"] == 2
    assert (await served.api.get(shown["links"]["preview"])).content == b"PNG"
    assert (await served.api.get(shown["links"]["report"])).json()["manifest"]["digest"] == ONE


async def test_the_same_images_are_one_data_set_whoever_brought_them_how_often(served: Served) -> None:
    await ended(served, IMPORT, ONE, name="first")
    await ended(served, IMPORT, OTHER)
    again = await ended(served, IMPORT, ONE, name="again")

    [_, shown] = (await served.api.get("/v1/datasets")).json()["data"]

    assert (shown["digest"], shown["name"], shown["import_job_id"]) == (ONE, "again", again), "its place stays"


async def test_a_training_that_brings_its_own_images_brings_a_data_set_without_a_report(served: Served) -> None:
    training = await ended(served, SMOKE, ONE)

    shown = (await served.api.get(f"/v1/datasets/{ONE}")).json()

    assert shown["import_job_id"] == training
    assert shown["classes"] == [{"name": "cat", "num_images": None}, {"name": "dog", "num_images": None}]
    assert (shown["num_left_out"], shown["links"].keys()) == (None, {"self", "job"})


async def test_another_project_sees_nothing_of_it(served: Served) -> None:
    await ended(served, IMPORT, ONE)

    assert await listed(served.api, **ELSEWHERE) == []
    for answer in (
        await served.api.get(f"/v1/datasets/{ONE}", headers=ELSEWHERE),
        await served.api.delete(f"/v1/datasets/{ONE}", headers=ELSEWHERE),
    ):
        assert code(answer) == (404, "dataset_not_found")
    assert await listed(served.api) == [ONE]


async def test_a_list_comes_page_by_page(served: Served) -> None:
    digests = [f"{number:064x}" for number in range(5)]
    for digest in digests:
        await ended(served, IMPORT, digest)

    pages, query = list[list[str]](), {"limit": "2"}
    while True:
        page = (await served.api.get("/v1/datasets", params=query)).json()
        pages.append([one["digest"] for one in page["data"]])
        if not page["has_more"]:
            break
        query["cursor"] = page["next_cursor"]

    assert pages == [digests[:2:-1], digests[2:0:-1], digests[:1]]
    foreign = await served.api.get("/v1/datasets", params={"cursor": "am9iczp4"})
    assert code(foreign) == (422, "validation_failed")


async def test_those_whose_digest_begins_so_are_listed_page_by_page(served: Served) -> None:
    twin = "1a" + "0" * 62
    for digest in (ONE, OTHER, twin):
        await ended(served, IMPORT, digest)

    first = (await served.api.get("/v1/datasets", params={"digest_prefix": "1a", "limit": 1})).json()
    rest = {"digest_prefix": "1a", "cursor": first["next_cursor"]}
    last = (await served.api.get("/v1/datasets", params=rest)).json()

    assert [[one["digest"] for one in page["data"]] for page in (first, last)] == [[twin], [ONE]]
    assert not last["has_more"]
    for none in ("%", "1A", 65 * "1"):
        refused = await served.api.get("/v1/datasets", params={"digest_prefix": none})
        assert code(refused) == (422, "validation_failed"), "so no digest begins"


async def test_what_somebody_has_taken_out_of_the_store_is_shown_no_more(served: Served) -> None:
    await ended(served, IMPORT, ONE)
    await ended(served, IMPORT, OTHER)

    served.store.delete(dataset_folder(ONE) + MANIFEST)

    assert await listed(served.api) == [OTHER]
    assert code(await served.api.get(f"/v1/datasets/{ONE}")) == (404, "dataset_not_found")


async def test_a_job_that_was_deleted_leaves_its_data_set(served: Served) -> None:
    job_id = await ended(served, IMPORT, ONE)
    assert (await served.api.delete(f"/v1/jobs/{job_id}", params={"purge": "results"})).status_code == 204

    shown = (await served.api.get(f"/v1/datasets/{ONE}")).json()

    assert shown["num_images"] == 3
    assert shown["links"].keys() == {"self", "job"}


async def test_an_import_in_the_words_of_data_sets_is_the_same_job(served: Served) -> None:
    dataset = {"kind": "npz", "path": "/data/faces.npz"}
    document = {
        "name": "faces",
        "dataset": dataset,
        "max_faulty_images": 3,
        "labels": {"team": "a"},
        "priority": "high",
    }

    answer = await served.api.post("/v1/datasets", json=document, headers={"Idempotency-Key": "k"})
    again = await served.api.post("/v1/datasets", json=document, headers={"Idempotency-Key": "k"})

    job = answer.json()
    assert (answer.status_code, again.json()["id"]) == (202, job["id"])
    assert answer.headers["location"] == f"/v1/jobs/{job['id']}"
    assert (job["spec"]["kind"], job["spec"]["max_faulty_images"], job["spec"]["dataset"]["path"]) == (
        *("import", 3, "/data/faces.npz"),
    )
    assert (job["name"], job["labels"], job["priority"]) == ("faces", {"team": "a"}, "high")


async def test_what_is_wrong_with_it_is_told_by_the_fields_of_the_request(tmp_path: Path) -> None:
    async with served_in(tmp_path, local_paths=True) as served:
        wrong = {"dataset": {"kind": "npz", "path": "faces.npz"}}
        upload = {"dataset": {"kind": "npz", "path": "upload://upl_01ARZ3NDEKTSV4RRFFQ69G5FAV"}}
        answers = [
            await served.api.post("/v1/datasets", json=wrong),
            await served.api.post("/v1/datasets", json=upload),
            await served.api.post("/v1/datasets", json={"dataset": {"kind": "npz", "path": "s3:/x"}}),
            await served.api.post("/v1/datasets", json={"dataset": {"kind": "imported", "digest": ONE}}),
            await served.api.post("/v1/datasets", json=wrong | {"max_faulty_images": -1}),
        ]

    assert [code(answer) for answer in answers] == [(422, "validation_failed")] * 5
    pointers = [answer.json()["errors"][0]["pointer"] for answer in answers]
    assert pointers == ["/dataset/path"] * 3 + ["/dataset/kind", "/max_faulty_images"]


async def test_what_jobs_learn_from_is_not_removed(served: Served) -> None:
    await ended(served, IMPORT, ONE)
    spec = SMOKE | {"dataset": {"kind": "imported", "digest": ONE}}
    training = (await served.api.post("/v1/jobs", json={"spec": spec})).json()
    assert training["dataset_digest"] == ONE

    refused = await served.api.delete(f"/v1/datasets/{ONE}")
    await served.api.post(f"/v1/jobs/{training['id']}/cancel", json={"mode": "now"})

    async def is_over() -> bool:
        return bool((await served.api.get(f"/v1/jobs/{training['id']}")).json()["state"] == "cancelled")

    await eventually(is_over, what="the training is cancelled")
    still = await served.api.delete(f"/v1/datasets/{ONE}")
    assert (await served.api.delete(f"/v1/jobs/{training['id']}")).status_code == 204
    removed = await served.api.delete(f"/v1/datasets/{ONE}")

    assert code(refused) == code(still) == (409, "dataset_in_use")
    assert training["id"] in refused.json()["detail"]
    assert removed.status_code == 204
    assert await listed(served.api) == []
    audited = (await served.api.get("/v1/audit")).json()["data"]
    assert [row["target"] for row in audited if row["action"] == "dataset.delete"] == [ONE]
