"""`cdm results`, and what the other commands say of jobs that are no trainings."""

import json
from pathlib import Path
from typing import Any

import pytest

from service.cli import findings
from tests.support.served import Service
from workers.contract.keys import JobKeys

Found = dict[str, Any]
MANIFEST = {
    "digest": "d" * 64,
    "num_images": 1200,
    "channels": 3,
    "resolution": 32,
    "classes": ["cat", "dog"],
    "labels": None,
    "sigma_data": 0.4711,
    "shards": [],
}
IMPORTED = {
    "manifest": MANIFEST,
    "num_left_out": 2,
    "left_out": {"a.png": "cannot be read", "b\n.png": "is not square"},
    "num_ignored_files": 1,
    "images_per_class": {"cat": 1000, "dog": 200},
    "files": ["preview.png"],
    "ended_at": "2026-11-01T12:00:00Z",
}
SAMPLED = {
    "checkpoint": {"job_id": "job_of", "images_seen": 160_000, "average": "ema"},
    "checkpoint_seal": None,
    "sampler": {},
    "first_seed": 7,
    "num_images": 1000,
    "classes": None,
    "files": ["images.zip", "grid.png"],
    "ended_at": "2026-11-01T12:00:00Z",
}


def submitted(service: Service, spec: dict[str, Any], **files: bytes) -> str:
    job = service.client.jobs.create(spec).id
    for name, data in files.items():
        service.store.put(JobKeys(job).results + name.replace("_", "."), data)
    return job


def drawn(service: Service, kind: str, **files: bytes) -> str:
    trained = service.submit()
    service.checkpoint(trained, 160)
    spec = {"kind": kind, "checkpoint": {"job_id": trained}, "compute": {"accelerator": "cpu"}}
    return submitted(service, spec, **files)


def imported(service: Service, **files: bytes) -> str:
    return submitted(service, {"kind": "import", "dataset": {"kind": "builtin", "name": "fashion16"}}, **files)


def test_what_a_sample_job_has_left_is_said_and_fetched(service: Service, tmp_path: Path) -> None:
    job = drawn(service, "sample", result_json=json.dumps(SAMPLED).encode(), images_zip=b"ZIP", grid_png=b"PNG")

    shown = service.cdm("results", job)
    fetched = service.cdm("results", job, "-o", "out/here")

    assert shown.out.splitlines() == [
        "1,000 images of seeds 7 to 1006, drawn from job_of at 160,000 images, ema",
        "files: grid.png, images.zip, result.json",
        f"fetch them with `cdm results {job} --output FOLDER`",
    ]
    folder = tmp_path / "out" / "here"
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == {
        "grid.png": b"PNG",
        "images.zip": b"ZIP",
        "result.json": json.dumps(SAMPLED).encode(),
    }
    assert fetched.out.splitlines()[1:] == [f"files: {folder}/grid.png, {folder}/images.zip, {folder}/result.json"]


def test_what_was_drawn_from_and_found_of_weights_names_their_file(service: Service, evaluation: Found) -> None:
    of_weights = {"weights": {"location": "/data/edm.safetensors", "sha256": "ab" * 32}}
    sampled = SAMPLED | {"checkpoint": None} | of_weights
    found = {name: value for name, value in evaluation.items() if not name.startswith("checkpoint")} | of_weights
    job = drawn(service, "sample", result_json=json.dumps(sampled).encode())
    other = drawn(service, "evaluate", result_json=json.dumps(found).encode())

    where = "/data/edm.safetensors, sha256 abababababab"
    assert service.cdm("results", job).out.splitlines()[0].endswith(f"drawn from {where}")
    assert service.cdm("results", other).out.splitlines()[0] == where


def test_a_file_larger_than_one_streamed_piece_is_fetched_whole(service: Service, tmp_path: Path) -> None:
    large = bytes(range(256)) * (9 << 12)
    job = drawn(service, "sample", result_json=json.dumps(SAMPLED).encode(), images_zip=large)

    fetched = service.cdm("results", job, "-o", "out")

    assert fetched.code == 0, fetched.err
    assert "fetching images.zip" in fetched.err
    assert "9.4/9.4 MB" in fetched.err
    assert (tmp_path / "out" / "images.zip").read_bytes() == large
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"images.zip", "result.json"}


def test_what_an_evaluation_has_found_is_a_table(service: Service, evaluation: Found) -> None:
    job = drawn(service, "evaluate", result_json=json.dumps(evaluation).encode())

    shown = service.cdm("results", job)

    assert shown.out.splitlines()[:5] == [
        "job_of at 160,000 images, ema",
        "3 x 5,000 images, heun with 18 steps; features lite0 c0ffee000000",
        "MEASURE  VALUE  +-    BY CHANCE  MIN",
        "FD-ENL0  12.35  0.21  1.5        12",
        "recall   0.5",
    ]


def test_what_an_import_has_found_is_the_digest_and_what_was_left_out(service: Service) -> None:
    job = imported(service, result_json=json.dumps(IMPORTED).encode(), preview_png=b"PNG")

    lines = service.cdm("results", job).out.splitlines()

    assert lines[:7] == [
        f"digest     {'d' * 64}",
        "images     1,200 of 32 x 32 x 3, sigma_data 0.471",
        "class      cat: 1,000",
        "class      dog: 200",
        "left out   2 images",
        "           'a.png' cannot be read",
        r"           'b\n.png' is not square",
    ]
    assert lines[7] == "no images  1 files"


def test_in_json_a_result_is_its_document_and_where_its_files_are(service: Service, tmp_path: Path) -> None:
    job = imported(service, result_json=json.dumps(IMPORTED).encode(), preview_png=b"PNG")

    named = service.cdm("results", job, "--json").document
    fetched = service.cdm("results", job, "--json", "-o", "out").document

    assert named == IMPORTED | {"files": ["preview.png", "result.json"]}
    assert fetched["files"] == [str(tmp_path / "out" / name) for name in ("preview.png", "result.json")]


def found_of(service: Service, job: str, images_seen: int, by: str, evaluation: Found, **changes: Any) -> None:
    """What the evaluation job `by` has found of a training."""
    checkpoint = {"job_id": job, "images_seen": images_seen, "average": "ema"}
    document = evaluation | {"job_id": by, "checkpoint": checkpoint, **changes}
    service.store.put(JobKeys(job).evaluation(images_seen, 1, by), json.dumps(document).encode())


def test_the_evaluations_of_a_training_are_a_row_each(service: Service, evaluation: Found) -> None:
    job = service.submit()
    none = service.cdm("results", job)
    found_of(service, job, 320, "job_b", evaluation, measures={"FD-ENL0": {"value": 9.0}, "recall": {"value": 0.25}})
    found_of(service, job, 160, "job_a", evaluation, measures={"FD-ENL0": {"value": 12.3456}}, classes=[8, 8])

    assert none.out == f"no evaluations yet: `cdm evaluate {job}`\n"
    assert service.cdm("results", job).out.splitlines() == [
        "IMAGES SEEN  AVERAGE  DRAWN             FD-ENL0  recall  JOB",
        "160          ema      5,000 of class 8  12.35            job_a",
        "320          ema      5,000             9        0.25    job_b",
        f"fetch their files with `cdm results {job} --output FOLDER`",
    ]
    assert [each["job_id"] for each in service.cdm("results", job, "--json").document] == ["job_a", "job_b"]
    assert [each.job_id for each in service.client.jobs.evaluations(job)] == ["job_a", "job_b"]


def test_what_evaluations_do_not_have_alike_is_a_column_and_values_have_their_errors(
    service: Service, evaluation: Found
) -> None:
    job = service.submit()
    found_of(service, job, 160, "job_a", evaluation)
    found_of(service, job, 160, "job_b", evaluation, sampler={"steps": 40})
    found_of(service, job, 160, "job_c", evaluation, sampler={"guidance": 2.0}, measures={"recall": {"value": 0.25}})

    assert service.cdm("results", job).out.splitlines()[:-1] == [
        "IMAGES SEEN  AVERAGE  DRAWN  sampler.guidance  sampler.steps  FD-ENL0        FD-ENL0 MIN  recall  JOB",
        "160          ema      5,000  1.0               18             12.35 +- 0.21  12           0.5     job_a",
        "160          ema      5,000  1.0               40             12.35 +- 0.21  12           0.5     job_b",
        "160          ema      5,000  2.0               18                                         0.25    job_c",
    ]


def test_the_files_of_a_trainings_evaluations_are_fetched_into_a_folder_each(
    service: Service, evaluation: Found, tmp_path: Path
) -> None:
    job = service.submit()
    service.checkpoint(job, 160)
    spec = {"kind": "evaluate", "checkpoint": {"job_id": job}, "compute": {"accelerator": "cpu"}}
    first, second = sorted(submitted(service, spec, result_json=b"{}", drift_png=b"PNG") for _ in range(2))
    for by in (first, second, "job_that_was_deleted"):
        found_of(service, job, 160, by, evaluation)

    fetched = service.cdm("results", job, "-o", "out")
    documents = service.cdm("results", job, "-o", "out", "--json").document

    assert fetched.code == 0, fetched.err
    folder = tmp_path / "out"
    assert fetched.out.splitlines()[-3:] == [
        f"files: {folder}/{first}",
        f"files: {folder}/{second}",
        "no files of job_that_was_deleted: it was deleted",
    ]
    assert {str(path.relative_to(folder)): path.read_bytes() for path in folder.glob("*/*")} == {
        f"{first}/drift.png": b"PNG",
        f"{first}/result.json": b"{}",
        f"{second}/drift.png": b"PNG",
        f"{second}/result.json": b"{}",
    }
    assert {each["job_id"]: each["files"] for each in documents} == {
        first: [f"{folder}/{first}/drift.png", f"{folder}/{first}/result.json"],
        second: [f"{folder}/{second}/drift.png", f"{folder}/{second}/result.json"],
        "job_that_was_deleted": [],
    }


def test_a_training_without_evaluations_has_nothing_to_fetch_and_says_what_to_do(
    service: Service, tmp_path: Path
) -> None:
    job = service.submit()

    answer = service.cdm("results", job, "-o", "out")

    assert (answer.code, answer.out) == (1, "")
    assert answer.err == f"error: {job} has left nothing to fetch, no evaluations yet: `cdm evaluate {job}`\n"
    assert not (tmp_path / "out").exists()


def test_a_job_that_has_left_nothing_says_how_it_stands(service: Service) -> None:
    job = imported(service, preview_png=b"PNG")

    answer = service.cdm("results", job)

    assert (answer.code, answer.out) == (1, "")
    assert answer.err.startswith(f"error: {job} has left nothing yet: it is ")
    assert answer.err.count("\n") == 1


def test_a_folder_that_cannot_be_written_is_one_line(service: Service, tmp_path: Path) -> None:
    job = imported(service, result_json=json.dumps(IMPORTED).encode())
    (tmp_path / "taken").write_text("a file")

    answer = service.cdm("results", job, "-o", "taken")

    assert (answer.code, answer.out) == (1, "")
    assert answer.err == "error: cannot write to taken: File exists\n"


@pytest.mark.parametrize("kind", ["train", "sample", "evaluate", "import", "compare"])
def test_a_result_of_a_newer_release_is_shown_as_it_is(kind: str) -> None:
    assert json.loads(findings.result(kind, {"mood": "good"})) == {"mood": "good"}


def test_jobs_are_listed_by_kind(service: Service) -> None:
    job = imported(service)
    trained = service.submit()

    assert [each["id"] for each in service.cdm("jobs", "--kind", "import", "--json").document] == [job]
    assert [each["id"] for each in service.cdm("jobs", "--kind", "train", "--json").document] == [trained]
    assert service.cdm("jobs", "--kind", "sample").out == "no jobs\n"
    assert "Invalid value for '--kind'" in service.cdm("jobs", "--kind", "paint").err


def test_what_only_trainings_can_is_refused_in_one_line(service: Service) -> None:
    job = imported(service)
    service.end(job, "succeeded")
    service.client.jobs.wait(job, timeout=30, poll_seconds=0.02)
    why = "only trainings can, and it is a job of kind import; possible: archive, delete"

    assert service.cdm("fork", job).err == f"error: {job} is succeeded: it cannot fork; {why}\n"
    assert service.cdm("replay", job).err == f"error: {job} is succeeded: it cannot replay; {why}\n"
    assert service.cdm("images", job).err == f"error: {job} is a job of kind import: see `cdm results {job}`\n"
    averaged = service.cdm("average", job, "--relative-width", "0.1", "-o", "out.safetensors")
    assert averaged.err == f"error: {job} is a job of kind import: only trainings have checkpoints\n"
    assert f"look at it with `cdm results {job}`" in service.cdm("watch", job).out


def test_results_are_deleted_with_their_job(service: Service) -> None:
    job = imported(service, result_json=b"{}")
    service.end(job, "succeeded")
    service.client.jobs.wait(job, timeout=30, poll_seconds=0.02)

    answer = service.cdm("delete", job, "--purge", "results", "--yes")

    kept = "checkpoints, samples, logs, metrics, exports"
    assert answer.out.startswith(f"deleted {job}, with its results; what {kept} it has left stay")


@pytest.mark.parametrize("change", ["kind=import", "kind=sample"])
def test_a_fork_stays_what_its_job_is(service: Service, change: str) -> None:
    job = service.submit()
    service.checkpoint(job, 160)

    answer = service.cdm("fork", job, "--set", change)

    assert (answer.code, answer.out, answer.err.count("\n")) == (1, "", 1)
