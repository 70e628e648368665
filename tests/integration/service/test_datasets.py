"""Image sets of a project: what its jobs have brought, shown, and removed when nobody needs them."""

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx2
import pytest
from structlog.testing import capture_logs

from service.cluster import MemoryCluster
from service.errors import DatasetInUse, DatasetNotFound
from service.jobs.rebuild import rebuild
from service.jobs.views import JobCreate
from tests.support.plane import REQUESTER, Plane, Script, Served, eventually, plane_in, served_in
from tests.support.problems import code
from tests.support.submissions import SMOKE
from tests.support.worker import Worker
from workers.contract.data import DatasetManifest, Shard
from workers.contract.importing import ImportReport
from workers.contract.jobs import parse_job
from workers.contract.keys import MANIFEST, RESULT, JobKeys, dataset_folder
from workers.storage import ObjectStore

AT = "2026-11-01T00:00:00Z"
ONE, OTHER, THIRD = "1a" * 32, "2b" * 32, "3c" * 32
IMPORT = {"kind": "import", "dataset": {"kind": "npz", "path": "/data/images.npz"}}
ELSEWHERE = {"Cdm-Project": "other"}


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[Served]:
    async with served_in(tmp_path) as served:
        assert (await served.api.post("/v1/projects", json={"name": "other"})).status_code == 201
        yield served


def manifest(digest: str) -> DatasetManifest:
    shard = Shard(name="shard-00000.u8", num_images=3, sha256="0" * 64)
    labels = Shard(name="labels.i32", num_images=3, sha256="0" * 64)
    return DatasetManifest(
        digest=digest,
        num_images=3,
        channels=1,
        resolution=8,
        classes=("cat", "dog"),
        labels=labels,
        sigma_data=0.5,
        shards=(shard,),
    )


def bring(store: ObjectStore, job_id: str, digest: str, *, report: bool = True) -> None:
    """What the workers of a job leave in the store when they have imported images."""
    found, keys = manifest(digest), JobKeys(job_id)
    for shard in (*found.shards, found.labels):
        assert shard
        store.put(dataset_folder(digest) + shard.name, b"pixels")
    store.put(dataset_folder(digest) + MANIFEST, found.model_dump_json().encode())
    store.put(keys.dataset, found.model_dump_json().encode())
    if report:
        said = ImportReport.model_validate(
            {
                "manifest": found,
                "num_left_out": 1,
                "left_out": {"bad.png": "is no image"},
                "num_ignored_files": 2,
                "images_per_class": {"cat": 2, "dog": 1},
                "files": ("preview.png",),
                "ended_at": AT,
            }
        )
        store.put(keys.results + "preview.png", b"PNG")
        store.put(keys.results + RESULT, said.model_dump_json().encode())


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


async def begun(plane: Plane, *, project: str = "default") -> str:
    """An import that its driver is at."""
    plane.clock.advance(0.01)
    request = JobCreate.model_validate({"spec": parse_job(IMPORT)})
    job = await plane.submissions.submit(request, requester=replace(REQUESTER, project=project))
    await plane.settle()
    return job.id


async def brought(plane: Plane, digest: str, *, project: str = "default") -> str:
    """One that has ended."""
    job_id = await begun(plane, project=project)
    bring(plane.store, job_id, digest)
    plane.worker(job_id).outcome("succeeded", at=plane.clock())
    await plane.settle()
    return job_id


async def remove(plane: Plane, digest: str, *, project: str = "default") -> None:
    await plane.parts.datasets.remove(digest, requester=replace(REQUESTER, project=project))


async def left_of(plane: Plane, digest: str) -> list[str]:
    """What is in the store of it after a look for what nobody wants."""
    await plane.parts.housekeeping.tick()
    return plane.store.list(dataset_folder(digest))


async def test_the_bytes_go_with_the_last_project_that_has_them(plane: Plane) -> None:
    await brought(plane, ONE)
    await brought(plane, ONE, project="other")
    await brought(plane, OTHER)
    await plane.aftercare.tick()  # now all three jobs are known to have one

    await remove(plane, ONE)
    kept = await left_of(plane, ONE)
    shown, _ = await plane.parts.datasets.find(ONE, project="other")
    with pytest.raises(DatasetNotFound):
        await plane.parts.datasets.find(ONE, project="default")
    await remove(plane, ONE, project="other")

    assert len(kept) == 3
    assert shown.job.project == "other"
    assert await left_of(plane, ONE) == []
    assert len(await left_of(plane, OTHER)) == 3
    assert plane.store.list("unwanted/") == []


async def test_what_evaluations_to_come_are_measured_at_is_kept(
    tmp_path: Path, script: Script, database_url: str
) -> None:
    """For the projects that have it, and for a training of another one, too."""
    async with plane_in(tmp_path, cluster=MemoryCluster(script), database_url=database_url) as plane:
        await brought(plane, OTHER)
        for project in ("default", "other"):
            await brought(plane, ONE, project=project)
        holding_out: dict[str, Any] = {
            "spec": SMOKE | {"dataset": {"kind": "imported", "digest": OTHER}},
            "evaluations": {"num_images": 100, "held_out": ONE},
        }
        training = await plane.started(**holding_out)

        with pytest.raises(DatasetInUse, match=training):
            await remove(plane, ONE)
        plane.worker(training).outcome("succeeded", at=plane.clock())
        await plane.settle()
        with pytest.raises(DatasetInUse, match=training):
            await remove(plane, ONE)
        await plane.followups.tick()  # there is no checkpoint to evaluate
        await remove(plane, ONE)

        second = await plane.started(**holding_out)
        await remove(plane, ONE, project="other")
        kept = await left_of(plane, ONE)
        plane.worker(second).outcome("succeeded", at=plane.clock())
        await plane.settle()
        await plane.followups.tick()

        assert len(kept) == 3
        assert await left_of(plane, ONE) == []


async def test_nothing_is_removed_while_a_job_runs_that_has_not_said_what_it_imports(plane: Plane) -> None:
    await brought(plane, ONE)
    running = await begun(plane)
    await remove(plane, ONE)

    with capture_logs() as logs:
        waiting = await left_of(plane, ONE)
    bring(plane.store, running, ONE)  # it has found the same images, and relies on what is there
    await plane.aftercare.tick()

    assert len(waiting) == 3
    assert {"event": "dataset.kept_for_now", "digest": ONE, "log_level": "info"} in logs
    assert len(await left_of(plane, ONE)) == 3
    assert (await plane.parts.datasets.find(ONE, project="default"))[0].job.id == running
    assert plane.store.list("unwanted/") == []


async def test_what_a_running_job_is_about_is_known_before_it_ends(plane: Plane) -> None:
    running, other = await begun(plane), await begun(plane)
    bring(plane.store, running, ONE)

    await plane.aftercare.tick()

    assert [(await plane.job(each)).dataset for each in (running, other)] == [ONE, None]


async def test_a_job_that_failed_before_it_had_any_images_may_have_them_when_it_is_tried_again(plane: Plane) -> None:
    job_id = await begun(plane)
    plane.worker(job_id).outcome("failed", at=plane.clock(), reason="data_error")
    await plane.settle()
    await plane.aftercare.tick()
    failed = (await plane.job(job_id)).dataset

    await plane.service.retry(job_id, requester=REQUESTER)
    await plane.settle()
    bring(plane.store, job_id, ONE)
    plane.worker(job_id, 2).outcome("succeeded", at=plane.clock())
    await plane.settle()

    assert failed == ""
    assert (await plane.parts.datasets.find(ONE, project="default"))[0].job.id == job_id


async def test_a_database_that_was_lost_knows_the_data_sets_again(plane: Plane, tmp_path: Path, script: Script) -> None:
    """From the word of the workers, as it does those of jobs of before it noted any; and which were given up."""
    first, second, _ = await brought(plane, ONE), await brought(plane, OTHER), await brought(plane, THIRD)
    await plane.aftercare.tick()
    await remove(plane, THIRD)
    await plane.aftercare.tick()
    (tmp_path / "anew").mkdir()

    async with plane_in(tmp_path / "anew", cluster=MemoryCluster(script), store=plane.store) as anew:
        await rebuild(anew.jobs, anew.objects, now=anew.clock())
        found = await anew.parts.datasets.page(project="default", before=None, limit=10)

    assert [(one.digest, one.job.id) for one in found] == [(OTHER, second), (ONE, first)]
