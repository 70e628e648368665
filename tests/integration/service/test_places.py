"""Where the files of a job may lie: nobody is shown what is not theirs, however well the workers could read it."""

import asyncio
import os
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.plane import Served, eventually, served_in
from tests.support.problems import code
from tests.support.submissions import SMOKE, drawing, refused, submitted, trained

BUCKETS = ("s3://public", "s3://shared/sets")
INCEPTION = {"kind": "inception", "weights": "s3://public/inception.pth", "sha256": "ab" * 32}


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[Served]:
    async with served_in(tmp_path, local_paths=True) as served:
        yield served


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
            expected = "data sets may lie in s3://public or s3://shared/sets; upload it instead"
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
            pointer: f"files may lie {opened}; upload the file instead"
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


@pytest.mark.parametrize("place", ["file:///etc/weights", "memory://other/weights"])
async def test_stores_that_workers_do_not_share_are_for_jobs_that_are_run_by_hand(served: Served, place: str) -> None:
    mend = "is in no place that workers share; give a path of the workers, or upload the file"
    answer = await served.api.post(
        "/v1/jobs", json={"spec": SMOKE, "evaluations": {"features": INCEPTION | {"weights": place}}}
    )

    assert await refused(served, SMOKE | {"initial_weights": place}) == {"/spec/initial_weights": mend}
    assert [(each["pointer"], each["message"]) for each in answer.json()["errors"]] == [
        ("/evaluations/features/weights", mend)
    ]


async def test_the_services_own_store_stays_closed_though_its_bucket_is_open(tmp_path: Path) -> None:
    async with served_in(tmp_path, store_url="s3://ours/cdm", s3_sources=["s3://ours"]) as served:
        theirs = {"kind": "import", "dataset": {"kind": "zip", "path": "s3://ours/cdm/jobs/a/results/images.zip"}}

        assert "store of the service itself" in (await refused(served, theirs))["/spec/dataset/path"]
        await submitted(served, {"kind": "import", "dataset": {"kind": "zip", "path": "s3://ours/mine.zip"}})
        sources = (await served.api.get("/v1/sources")).json()

    assert sources["s3"] == ["s3://ours"]


@pytest.mark.parametrize("kind", ["folder", "webdataset", "parquet"])
@pytest.mark.parametrize(
    ("path", "is_taken"),
    [
        ("s3://public/", True),
        ("s3://public/faces/", True),
        ("s3://shared/sets/", True),
        ("s3://shared/sets/2026/", True),
        ("s3://shared/sets-of-others/", False),
        ("s3://shared/", False),
        ("s3://shared/set/", False),
        ("s3://public-too/", False),
        ("s3://private/", False),
        ("S3://private/a/", False),
    ],
)
async def test_of_folders_of_buckets_workers_list_only_those_that_lie_in_what_is_opened(
    tmp_path: Path, path: str, is_taken: bool, kind: str
) -> None:
    spec = {"kind": "import", "dataset": {"kind": kind, "path": path}}
    async with served_in(tmp_path, store_url="s3://ours/cdm", s3_sources=BUCKETS) as served:
        if is_taken:
            await submitted(served, spec)
        else:
            expected = "data sets may lie in s3://public or s3://shared/sets; upload it instead"
            assert await refused(served, spec) == {"/spec/dataset/path": expected}


@pytest.mark.parametrize("opened", ["s3://ours", "s3://ours/"])
@pytest.mark.parametrize("path", ["s3://ours/", "s3://ours/cdm/", "s3://ours/cdm/jobs/", "S3://ours/"])
async def test_nor_a_folder_that_the_services_own_store_is_or_lies_in_though_its_bucket_is_open(
    tmp_path: Path, path: str, opened: str
) -> None:
    async with served_in(tmp_path, store_url="s3://ours/cdm", s3_sources=[opened]) as served:
        theirs = {"kind": "import", "dataset": {"kind": "folder", "path": path}}

        assert "store of the service itself" in (await refused(served, theirs))["/spec/dataset/path"]
        await submitted(served, {"kind": "import", "dataset": {"kind": "folder", "path": "s3://ours/cdm-images/"}})


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


LONG = "/a" * 30_000  # of which a body has room for one
DRAWN, MEASURED = drawing("sample", "job_1"), drawing("evaluate", "job_1")


@pytest.mark.parametrize(
    ("pointer", "body"),
    [
        ("/spec/dataset/path", {"spec": SMOKE | {"dataset": {"kind": "folder", "path": LONG}}}),
        ("/spec/dataset/path", {"spec": {"kind": "import", "dataset": {"kind": "zip", "path": LONG}}}),
        ("/spec/initial_weights", {"spec": SMOKE | {"initial_weights": LONG}}),
        ("/spec/reference", {"spec": MEASURED | {"features": INCEPTION, "reference": LONG}}),
        ("/spec/features/weights", {"spec": MEASURED | {"features": INCEPTION | {"weights": LONG}}}),
        ("/spec/inpainting/image", {"spec": DRAWN | {"inpainting": {"image": LONG, "mask": "/a"}}}),
        ("/spec/inpainting/mask", {"spec": DRAWN | {"inpainting": {"image": "/a", "mask": LONG}}}),
        ("/evaluations/reference", {"spec": SMOKE, "evaluations": {"features": INCEPTION, "reference": LONG}}),
    ],
)
async def test_what_is_longer_than_any_path_is_refused_for_that(
    served: Served, pointer: str, body: dict[str, Any]
) -> None:
    answer = await served.api.post("/v1/jobs", json=body)

    assert code(answer) == (422, "validation_failed")
    [problem] = answer.json()["errors"]
    assert (problem["pointer"], "at most 4096 characters" in problem["message"]) == (pointer, True)


@pytest.mark.parametrize(
    "fields",
    [{"initial_weights": "/mnt/silent/weights"}, {"dataset": {"kind": "folder", "path": "/mnt/silent", "channels": 1}}],
)
async def test_a_file_system_that_does_not_answer_holds_up_only_who_names_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fields: dict[str, Any]
) -> None:
    asked, answer, realpath = threading.Event(), threading.Event(), os.path.realpath
    answers = list[bool]()

    def silent(path: str, **how: Any) -> str:
        if str(path).startswith("/mnt/silent"):
            asked.set()
            answers.append(answer.wait(10))
        return realpath(path, **how)

    async def is_asked() -> bool:
        return asked.is_set()

    monkeypatch.setattr("os.path.realpath", silent)
    async with served_in(tmp_path, store_url="file:///srv/store") as served:
        posting = asyncio.create_task(served.api.post("/v1/jobs", json={"spec": SMOKE | fields}))
        await eventually(is_asked, what="its file system is asked")
        assert (await served.api.get("/healthz")).status_code == 200
        answer.set()

        assert (await posting).status_code == 201
    assert answers
    assert all(answers)
