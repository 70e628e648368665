"""Jobs that do something else than train, as they are submitted: what is settled, and what is refused."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from unittest.mock import AsyncMock

import pytest

from service.jobs.objects import JobObjects
from tests.support.plane import Served, served_in
from tests.support.problems import code
from tests.support.submissions import AT, SMOKE, drawing, ended, refused, submitted, trained
from tests.support.worker import Worker
from workers.contract.keys import MANIFEST, JobKeys, dataset_folder

DIGEST = "ab" * 32
FOLDER = {"kind": "folder", "path": "photos", "resolution": 16}


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[Served]:
    async with served_in(tmp_path, local_paths=True) as served:
        yield served


@pytest.mark.parametrize("kind", ["sample", "evaluate"])
async def test_what_is_drawn_from_is_settled_pinned_and_named_when_it_is_submitted(served: Served, kind: str) -> None:
    job_id = await trained(served, (100, 1), (160, 1), (160, 2))

    job = await submitted(served, drawing(kind, job_id))
    Worker(served.store, job_id, 2).checkpoint(200, at=AT)

    assert job["spec"]["checkpoint"] == {"job_id": job_id, "images_seen": 160, "attempt": 2, "average": None}
    assert json.loads(served.store.get(JobKeys(job["id"]).spec)) == job["spec"]
    assert (await served.api.get(f"/v1/jobs/{job['id']}")).json()["spec"] == job["spec"]
    assert served.store.list(JobKeys(job_id).pins) == [JobKeys(job_id).pin(160, 2, job["id"])], "the later attempt's"
    assert job["parent"] == {"job_id": job_id, "images_seen": 160}
    assert "fork" not in job["allowed"]


async def test_an_earlier_checkpoint_can_be_named(served: Served) -> None:
    job_id = await trained(served, (100, 1), (160, 1))

    job = await submitted(served, drawing("sample", job_id, images_seen=100, average="network"))

    assert job["spec"]["checkpoint"] == {"job_id": job_id, "images_seen": 100, "attempt": 1, "average": "network"}
    assert served.store.list(JobKeys(job_id).pins) == [JobKeys(job_id).pin(100, 1, job["id"])]


async def test_an_import_and_a_training_on_what_was_imported_are_taken(served: Served) -> None:
    imported = await submitted(served, {"kind": "import", "dataset": {"kind": "builtin", "name": "fashion16"}})
    served.store.put(dataset_folder(DIGEST) + MANIFEST, b"{}")
    training = await submitted(served, SMOKE | {"dataset": {"kind": "imported", "digest": DIGEST}})

    assert (imported["spec"]["kind"], imported["spec"]["max_faulty_images"], imported["parent"]) == ("import", 0, None)
    assert training["spec"]["dataset"] == {"kind": "imported", "digest": DIGEST}


@pytest.mark.parametrize("kind", ["sample", "evaluate"])
async def test_a_job_that_has_no_such_checkpoint_is_refused_with_those_it_has(served: Served, kind: str) -> None:
    young, grown = await trained(served), await trained(served, (100, 1), (160, 1))
    other_kind = str((await submitted(served, drawing("sample", grown)))["id"])
    job_id, images_seen = "/spec/checkpoint/job_id", "/spec/checkpoint/images_seen"

    assert await refused(served, drawing(kind, "job_none")) == {job_id: "there is no job job_none"}
    assert await refused(served, drawing(kind, other_kind)) == {
        job_id: f"{other_kind} is a job of kind sample, which has no checkpoints"
    }
    assert await refused(served, drawing(kind, young)) == {
        images_seen: f"{young} has no such checkpoint: it has none yet"
    }
    assert await refused(served, drawing(kind, grown, images_seen=101)) == {
        images_seen: f"{grown} has no such checkpoint: it has them at 100, 160"
    }
    assert await refused(served, drawing(kind, young), dry_run="true"), "a plan is refused, too"


@pytest.mark.parametrize("kind", ["sample", "evaluate"])
async def test_what_does_not_go_with_the_trainings_sampler_is_refused(served: Served, kind: str) -> None:
    job_id = await trained(served, (100, 1))

    wrong = await refused(served, drawing(kind, job_id) | {"sampler": {"sigma_min": 80.0}})

    assert wrong == {"/spec/sampler/sigma_min": "must be below sigma_max"}


async def test_a_deleted_job_and_one_of_another_project_are_not_there(served: Served) -> None:
    job_id = await trained(served, (100, 1))
    assert (await served.api.post("/v1/projects", json={"name": "other"})).status_code == 201
    ours, elsewhere = {"spec": drawing("sample", job_id)}, {"Cdm-Project": "other"}
    reason = f"there is no job {job_id}"

    from_elsewhere = await served.api.post("/v1/jobs", json=ours, headers=elsewhere)
    await ended(served, job_id)
    assert (await served.api.delete(f"/v1/jobs/{job_id}")).status_code == 204

    assert code(from_elsewhere) == (422, "validation_failed")
    assert [error["message"] for error in from_elsewhere.json()["errors"]] == [reason]
    assert await refused(served, drawing("sample", job_id)) == {"/spec/checkpoint/job_id": reason}


async def test_an_image_set_that_nobody_imported_is_refused_for_trainings_and_forks(served: Served) -> None:
    unknown = {"dataset": {"kind": "imported", "digest": DIGEST}}
    parent = await trained(served, (100, 1))

    assert "an import job says the digest" in (await refused(served, SMOKE | unknown))["/spec/dataset/digest"]
    fork = await served.api.post(f"/v1/jobs/{parent}/fork", json={"overrides": unknown})

    assert code(fork) == (422, "validation_failed")
    assert [error["pointer"] for error in fork.json()["errors"]] == ["/spec/dataset/digest"]
    assert served.store.list(JobKeys(parent).pins) == []


async def test_paths_depend_on_no_working_directory(served: Served) -> None:
    job_id = await trained(served, (100, 1))
    weights = {"features": {"kind": "inception", "weights": "fid.pth", "sha256": DIGEST}, "reference": "stats.npz"}

    assert "give a full path" in (await refused(served, {"kind": "import", "dataset": FOLDER}))["/spec/dataset/path"]
    wrong = await refused(served, drawing("evaluate", job_id) | weights)
    assert {*wrong} == {"/spec/reference", "/spec/features/weights"}
    assert all("give a full path" in message for message in wrong.values())


async def test_everything_that_is_wrong_is_said_at_once(served: Served) -> None:
    fields = {"first_seed": -1, "classes": [], "colour": "red", "compute": {"workers": 0}}
    among_themselves = {"reference": "/stats.npz", "drift_images": 1}
    both = {"reference": "stats.npz", "features": {"kind": "inception", "weights": "fid.pth", "sha256": DIGEST}}

    assert {*await refused(served, drawing("sample", "job_none") | fields)} == {
        *("/spec/first_seed", "/spec/classes", "/spec/colour", "/spec/compute/workers"),
    }
    assert {*await refused(served, drawing("evaluate", "a job") | among_themselves)} == {"/spec/checkpoint/job_id"}
    assert {*await refused(served, drawing("evaluate", "job_none") | among_themselves)} == {
        *("/spec/reference", "/spec/drift_images"),
    }
    assert {*await refused(served, drawing("evaluate", "job_none") | both)} == {
        *("/spec/reference", "/spec/features/weights", "/spec/checkpoint/job_id"),
    }


@pytest.mark.parametrize("spec", [{"kind": "paint"}, {}, {"kind": None}, {"kind": "sample"}, {"kind": "import"}])
async def test_a_document_of_no_kind_is_refused_with_a_pointer(served: Served, spec: dict[str, Any]) -> None:
    wrong = await refused(served, spec)

    assert wrong
    assert all(pointer.startswith("/spec") and message for pointer, message in wrong.items())


async def test_a_list_may_be_of_one_kind_page_by_page(served: Served) -> None:
    trainings = [await trained(served, (100, 1)) for _ in range(3)]
    drawn = [str((await submitted(served, drawing("sample", trainings[0])))["id"]) for _ in range(5)]

    async def pages(kind: str) -> list[list[str]]:
        found, query = list[list[str]](), {"kind": kind, "limit": "2"}
        while True:
            page = (await served.api.get("/v1/jobs", params=query)).json()
            found.append([job["id"] for job in page["data"]])
            assert {job["spec"]["kind"] for job in page["data"]} <= {kind}
            if not page["has_more"]:
                return found
            query["cursor"] = page["next_cursor"]

    newest = sorted(drawn, reverse=True)
    assert await pages("sample") == [newest[:2], newest[2:4], newest[4:]]
    assert sorted(each for page in await pages("train") for each in page) == sorted(trainings)
    assert await pages("evaluate") == [[]]
    refused_kind = await served.api.get("/v1/jobs", params={"kind": "paint"})
    assert code(refused_kind) == (422, "validation_failed")
    assert [error["pointer"] for error in refused_kind.json()["errors"]] == ["/query/kind"]


async def test_a_fork_and_a_replay_of_what_is_no_training_are_refused_with_what_is_possible(served: Served) -> None:
    job_id = await trained(served, (100, 1))
    drawn = await submitted(served, drawing("sample", job_id))

    for verb, body in (("fork", {}), ("replay", None)):
        answer = await served.api.post(f"/v1/jobs/{drawn['id']}/{verb}", json=body)
        assert code(answer) == (409, "state_conflict")
        assert "only trainings can, and it is a job of kind sample" in answer.json()["detail"]
        assert not {"fork", "replay"} & {*answer.json()["allowed"]}


@pytest.mark.parametrize("kind", ["sample", "evaluate"])
async def test_a_plan_is_settled_and_writes_nothing_down(served: Served, kind: str) -> None:
    job_id = await trained(served, (100, 1))

    answer = await served.api.post("/v1/jobs?dry_run=true", json={"spec": drawing(kind, job_id)})

    assert answer.status_code == 200
    assert answer.json()["spec"]["checkpoint"]["images_seen"] == 100
    assert served.store.list(JobKeys(job_id).pins) == []
    assert served.store.folders("jobs/") == [job_id]


async def test_the_same_request_twice_is_one_job_whatever_checkpoint_is_the_newest_by_then(served: Served) -> None:
    job_id = await trained(served, (100, 1))

    first = await submitted(served, drawing("sample", job_id), **{"Idempotency-Key": "once"})
    Worker(served.store, job_id).checkpoint(160, at=AT)
    again = await submitted(served, drawing("sample", job_id), **{"Idempotency-Key": "once"})

    assert again == first
    assert json.loads(served.store.get(JobKeys(first["id"]).spec))["checkpoint"]["images_seen"] == 100
    assert len((await served.api.get("/v1/jobs", params={"kind": "sample"})).json()["data"]) == 1


async def test_a_checkpoint_that_is_removed_between_look_and_pin_is_not_found(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = await trained(served, (100, 1))
    found = await JobObjects(served.store, url="memory://plane").checkpoint(job_id, images_seen=None, attempt=None)
    served.store.delete(JobKeys(job_id).checkpoint(100, 1) + MANIFEST)
    monkeypatch.setattr(JobObjects, "checkpoint", AsyncMock(return_value=found))

    answer = await served.api.post("/v1/jobs", json={"spec": drawing("sample", job_id)})

    assert code(answer) == (404, "checkpoint_not_found")
    assert "take a newer one" in answer.json()["detail"]
    assert [job["id"] for job in (await served.api.get("/v1/jobs")).json()["data"]] == [job_id]
    assert served.store.folders("jobs/") == [job_id]


async def test_what_is_to_follow_a_training_is_looked_at_when_the_training_is_submitted(served: Served) -> None:
    inception = {"kind": "inception", "weights": "/nowhere/weights.pth", "sha256": "0" * 64}
    evaluations = {"features": inception, "reference": "memory://plane/jobs/x/statistics.npz"}

    answer = await served.api.post("/v1/jobs", json={"spec": SMOKE, "evaluations": evaluations})

    assert code(answer) == (422, "validation_failed")
    assert {error["pointer"] for error in answer.json()["errors"]} == {
        "/evaluations/features/weights",
        "/evaluations/reference",
    }


async def test_a_plan_says_that_a_run_is_too_short_for_the_half_life_of_its_average(
    served: Served, tmp_path: Path
) -> None:
    async def said(**changes: object) -> bool:
        answer = await served.api.post("/v1/jobs?dry_run=true", json={"spec": SMOKE | changes})
        return any("halflife_images (17) is never reached" in warning for warning in answer.json()["warnings"])

    average, weights = {"kind": "exponential", "halflife_images": 17}, tmp_path / "weights.safetensors"
    weights.touch()

    assert await said(ema=average)
    assert not await said(ema=average | {"rampup_ratio": 0.1})
    assert not await said(ema=average, initial_weights=str(weights))
    assert not await said()
