"""Jobs that do something else than train, as they are submitted: what is settled, and what is refused."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from unittest.mock import AsyncMock

import pytest

from service.jobs.objects import JobObjects
from tests.support.plane import Served, Worker, eventually, served_in
from tests.support.problems import code
from workers.contract.keys import MANIFEST, JobKeys, dataset_folder
from workers.contract.presets import PRESETS

SMOKE = PRESETS["smoke"].model_dump(mode="json")
AT = "2026-11-01T00:00:00Z"
DIGEST = "ab" * 32
FOLDER = {"kind": "folder", "path": "photos", "resolution": 16}


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[Served]:
    async with served_in(tmp_path, local_paths=True) as served:
        yield served


async def submitted(served: Served, spec: dict[str, Any], **headers: str) -> dict[str, Any]:
    answer = await served.api.post("/v1/jobs", json={"spec": spec}, headers=headers)
    assert answer.status_code == 201, answer.text
    return dict(answer.json())


async def trained(served: Served, *checkpoints: tuple[int, int]) -> str:
    """A training with checkpoints, each at so many images and of such an attempt."""
    job_id = str((await submitted(served, SMOKE))["id"])
    for images_seen, attempt in checkpoints:
        Worker(served.store, job_id, attempt).checkpoint(images_seen, at=AT)
    return job_id


async def ended(served: Served, job_id: str) -> None:
    """Wait until it has, as its outcome says."""
    Worker(served.store, job_id).outcome("succeeded", at=AT)

    async def has_ended() -> bool:
        return bool((await served.api.get(f"/v1/jobs/{job_id}")).json()["state"] == "succeeded")

    await eventually(has_ended, what=f"{job_id} has ended")


async def refused(served: Served, spec: dict[str, Any], **query: str) -> dict[str, str]:
    """What is wrong with it, by pointer; and that nothing was written down."""
    before = {*served.store.list("")}, len((await served.api.get("/v1/jobs")).json()["data"])
    answer = await served.api.post("/v1/jobs", json={"spec": spec}, params=query)
    assert code(answer) == (422, "validation_failed")
    new = {key for key in {*served.store.list("")} - before[0] if "/pins/" in key or key.endswith("spec.json")}
    assert (new, len((await served.api.get("/v1/jobs")).json()["data"])) == (set(), before[1])
    return {error["pointer"]: error["message"] for error in answer.json()["errors"]}


def drawing(kind: str, job_id: str, **checkpoint: Any) -> dict[str, Any]:
    return {"kind": kind, "checkpoint": {"job_id": job_id, **checkpoint}, "compute": {"accelerator": "cpu"}}


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
    listed = await JobObjects(served.store, url="memory://plane").checkpoints(job_id)
    served.store.delete(JobKeys(job_id).checkpoint(100, 1) + MANIFEST)
    monkeypatch.setattr(JobObjects, "checkpoints", AsyncMock(return_value=listed))

    answer = await served.api.post("/v1/jobs", json={"spec": drawing("sample", job_id)})

    assert code(answer) == (404, "checkpoint_not_found")
    assert "take a newer one" in answer.json()["detail"]
    assert [job["id"] for job in (await served.api.get("/v1/jobs")).json()["data"]] == [job_id]
    assert served.store.folders("jobs/") == [job_id]


async def test_no_file_of_the_services_own_store_is_shown_to_anybody(served: Served) -> None:
    job_id = await trained(served, (160, 1))
    theirs = "memory://plane/jobs/job_of_others/samples/000000000160.png"
    inception = {"kind": "inception", "weights": theirs, "sha256": "0" * 64}

    shown = await refused(served, drawing("sample", job_id) | {"inpainting": {"image": theirs, "mask": theirs}})
    measured = await refused(served, drawing("evaluate", job_id) | {"features": inception, "reference": theirs})

    assert shown.keys() == {"/spec/inpainting/image", "/spec/inpainting/mask"}
    assert measured.keys() == {"/spec/features/weights", "/spec/reference"}
    assert {*shown.values(), *measured.values()} == {
        "lies in the store of the service itself; bring a file of your own"
    }


@pytest.mark.parametrize(
    "spelt",
    [
        "MEMORY://plane/{}",
        "memory://plane//{}",
        "memory://plane/x/../{}",
        "memory://pl\tane/{}",
        " memory://plane/./{}",
    ],
)
async def test_another_spelling_of_its_place_shows_no_such_file_either(served: Served, spelt: str) -> None:
    job_id = await trained(served, (160, 1))
    theirs = spelt.format("jobs/job_of_others/samples/000000000160.png")

    shown = await refused(served, drawing("sample", job_id) | {"inpainting": {"image": theirs, "mask": theirs}})

    assert shown.keys() == {"/spec/inpainting/image", "/spec/inpainting/mask"}


async def test_weights_of_another_projects_job_start_no_training(served: Served) -> None:
    job_id = await trained(served, (160, 1))
    assert (await served.api.post("/v1/projects", json={"name": "other"})).status_code == 201
    weights = f"memory://plane/jobs/{job_id}/exports/160-ema/weights.safetensors"
    spec = SMOKE | {"initial_weights": weights}

    def by(project: str) -> dict[str, str]:
        return {"Cdm-Project": project}

    ours = await served.api.post("/v1/jobs", json={"spec": spec}, headers=by("default"))
    theirs = await served.api.post("/v1/jobs", json={"spec": spec}, headers=by("other"))
    own = (await served.api.post("/v1/jobs", json={"spec": SMOKE}, headers=by("other"))).json()["id"]
    detour = SMOKE | {"initial_weights": weights.replace("jobs/", f"jobs/{own}/../")}
    roundabout = await served.api.post("/v1/jobs", json={"spec": detour}, headers=by("other"))

    assert ours.status_code == 201
    assert code(theirs) == code(roundabout) == (422, "validation_failed")
    assert theirs.json()["errors"][0]["pointer"] == "/spec/initial_weights"


async def test_what_is_to_follow_a_training_is_looked_at_when_the_training_is_submitted(served: Served) -> None:
    inception = {"kind": "inception", "weights": "/nowhere/weights.pth", "sha256": "0" * 64}
    evaluations = {"features": inception, "reference": "memory://plane/jobs/x/statistics.npz"}

    answer = await served.api.post("/v1/jobs", json={"spec": SMOKE, "evaluations": evaluations})

    assert code(answer) == (422, "validation_failed")
    assert {error["pointer"] for error in answer.json()["errors"]} == {
        "/evaluations/features/weights",
        "/evaluations/reference",
    }


BUCKETS = ("s3://public", "s3://shared/sets")
INCEPTION = {"kind": "inception", "weights": "s3://public/inception.pth", "sha256": DIGEST}


@pytest.mark.parametrize(
    ("path", "is_taken"),
    [
        ("s3://public/faces.zip", True),
        ("s3://shared/sets/2026/faces.zip", True),
        ("s3://shared/others.zip", False),
        ("s3://shared/sets-of-others/faces.zip", False),
        ("s3://public-too/faces.zip", False),
        ("s3://private/faces.zip", False),
        ("s3://ours/cdm/jobs/job_of_others/results/images.zip", False),
        ("s3://ours/faces.zip", False),
    ],
)
@pytest.mark.parametrize("kind", ["import", "train"])
async def test_workers_read_for_others_only_the_buckets_that_the_operator_has_opened(
    tmp_path: Path, kind: str, path: str, is_taken: bool
) -> None:
    dataset = {"kind": "zip", "path": path, "channels": 1}
    spec = SMOKE | {"dataset": dataset} if kind == "train" else {"kind": "import", "dataset": dataset}
    async with served_in(tmp_path, store_url="s3://ours/cdm", s3_sources=BUCKETS) as served:
        if is_taken:
            await submitted(served, spec)
        else:
            expected = "data sets may lie in s3://public or s3://shared/sets; upload the file instead"
            own = "lies in the store of the service itself; bring a file of your own"
            wanted = own if path.startswith("s3://ours/cdm/") else expected
            assert await refused(served, spec) == {"/spec/dataset/path": wanted}


@pytest.mark.parametrize(
    ("pointer", "fields"),
    [
        ("/spec/inpainting/image", {"inpainting": {"image": "s3://private/a.png", "mask": "s3://public/b.png"}}),
        ("/spec/inpainting/mask", {"inpainting": {"image": "s3://public/a.png", "mask": "s3://private/b.png"}}),
        ("/spec/reference", {"features": INCEPTION, "reference": "s3://private/statistics.npz"}),
        ("/spec/features/weights", {"features": INCEPTION | {"weights": "s3://private/inception.pth"}}),
    ],
)
async def test_nor_does_any_other_file_of_a_job_open_a_bucket(
    tmp_path: Path, pointer: str, fields: dict[str, Any]
) -> None:
    kind = "sample" if "inpainting" in fields else "evaluate"
    opened = "in s3://public or s3://shared/sets"
    async with served_in(tmp_path, store_url="s3://ours/cdm", s3_sources=BUCKETS) as served:
        job_id = await trained(served, (160, 1))

        assert await refused(served, drawing(kind, job_id) | fields) == {
            pointer: f"files may lie {opened}; give a path of the workers"
        }


async def test_nor_do_initial_weights_or_the_evaluations_of_a_training(tmp_path: Path) -> None:
    measured = {"every_images": 80, "features": INCEPTION}
    async with served_in(tmp_path, store_url="s3://ours/cdm", s3_sources=BUCKETS) as served:
        weights = await refused(served, SMOKE | {"initial_weights": "s3://private/weights.safetensors"})
        answer = await served.api.post(
            "/v1/jobs", json={"spec": SMOKE, "evaluations": measured | {"reference": "s3://private/statistics.npz"}}
        )

    assert weights.keys() == {"/spec/initial_weights"}
    assert [each["pointer"] for each in answer.json()["errors"]] == ["/evaluations/reference"]


async def test_the_services_own_store_stays_closed_though_its_bucket_is_open(tmp_path: Path) -> None:
    async with served_in(tmp_path, store_url="s3://ours/cdm", s3_sources=["s3://ours"]) as served:
        theirs = {"kind": "import", "dataset": {"kind": "zip", "path": "s3://ours/cdm/jobs/a/results/images.zip"}}

        assert "store of the service itself" in (await refused(served, theirs))["/spec/dataset/path"]
        await submitted(served, {"kind": "import", "dataset": {"kind": "zip", "path": "s3://ours/mine.zip"}})
        sources = (await served.api.get("/v1/sources")).json()

    assert sources["s3"] == ["s3://ours"]


async def test_unless_the_operator_has_said_so_no_bucket_is_read(served: Served) -> None:
    spec = {"kind": "import", "dataset": {"kind": "zip", "path": "s3://public/faces.zip"}}

    assert "in no bucket (CDM_S3_SOURCES of the service)" in (await refused(served, spec))["/spec/dataset/path"]


@pytest.mark.parametrize(
    "reference",
    [
        "s3://ours/cdm/jobs/x/statistics.npz",
        "s3://ours//cdm/jobs/x/statistics.npz",
        "s3://ours/cdm//jobs/x/statistics.npz",
        "s3://ours/other/../cdm/jobs/x/statistics.npz",
    ],
)
async def test_another_way_of_writing_a_place_in_the_own_store_opens_nothing(tmp_path: Path, reference: str) -> None:
    async with served_in(tmp_path, store_url="s3://ours/cdm") as served:
        job_id = await trained(served, (160, 1))

        assert (await refused(served, drawing("evaluate", job_id) | {"reference": reference})).keys() == {
            "/spec/reference"
        }


@pytest.mark.parametrize(
    "path",
    ["/srv/store/jobs/x/samples", "/srv/store", "/srv/store/", "/srv", "/", "/srv/a/../store/jobs", "//srv/store/jobs"],
)
async def test_nor_does_the_path_of_a_store_that_is_a_folder_or_of_what_holds_it(tmp_path: Path, path: str) -> None:
    async with served_in(tmp_path, store_url="file:///srv/store") as served:
        wrong = await refused(served, {"kind": "import", "dataset": {"kind": "folder", "path": path}})

    assert wrong == {"/spec/dataset/path": "lies in the store of the service itself; bring a file of your own"}
