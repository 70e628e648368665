"""`cdm datasets`, and the SDK behind it, against the real application."""

from pathlib import Path

import pytest

from service.client import Conflict, NotFound
from service.jobs.views import OF_JOB
from tests.support.served import Service
from tests.support.waiting import wait_until
from workers.contract.data import DatasetManifest, NpzDataset
from workers.contract.importing import ImportReport
from workers.contract.keys import MANIFEST, RESULT, JobKeys, dataset_folder

FACES, CATS = "fa" * 32, "ca" * 32


def imported(service: Service, digest: str, name: str) -> str:
    """An import that has ended."""
    job = service.client.datasets.create(NpzDataset(kind="npz", path="/data/images.npz"), name=name)
    keys = JobKeys(job.id)
    manifest = DatasetManifest(
        digest=digest,
        num_images=1500,
        channels=3,
        resolution=32,
        classes=("old", "young"),
        labels=None,
        sigma_data=0.5,
        shards=(),
    )
    report = ImportReport.model_validate(
        {
            "manifest": manifest,
            "num_left_out": 1,
            "left_out": {"bad.png": "is no image"},
            "num_ignored_files": 0,
            "images_per_class": {"old": 500, "young": 1000},
            "files": ("preview.png",),
            "ended_at": "2026-11-01T00:00:00Z",
        }
    )
    service.store.put(dataset_folder(digest) + MANIFEST, manifest.model_dump_json().encode())
    service.store.put(keys.dataset, manifest.model_dump_json().encode())
    service.store.put(keys.results + "preview.png", b"PNG")
    service.store.put(keys.results + RESULT, report.model_dump_json().encode())
    service.end(job.id, "succeeded")
    assert service.client.jobs.wait(job.id, timeout=30, poll_seconds=0.02).state == "succeeded"
    return job.id


def test_image_sets_are_listed_and_shown_by_the_beginning_of_their_digest(service: Service) -> None:
    assert service.cdm("datasets").out == "no data sets: `cdm import` some images\n"
    faces = imported(service, FACES, "faces")
    imported(service, CATS, "cats")

    head, newest, oldest = service.cdm("datasets").out.splitlines()
    shown = service.cdm("datasets", "show", FACES[:6]).out

    assert service.cdm.offered(f"cdm datasets show {FACES[:3]}") == [FACES]
    assert head.split()[:3] == ["DIGEST", "NAME", "IMAGES"]
    assert newest.split()[:5] == [CATS[:16], "cats", "1,500", "32x32x3", "2"]
    assert oldest.split()[:2] == [FACES[:16], "faces"]
    for words in (FACES, f"by {faces}", "young: 1,000", "'bad.png' is no image", f"digest: {FACES}"):
        assert words in shown
    assert [one["digest"] for one in service.cdm("datasets", "--json").document] == [CATS, FACES]
    assert [one["digest"] for one in service.cdm("datasets", "list", "--limit", "1", "--json").document] == [CATS]


def test_a_preview_is_fetched(service: Service, tmp_path: Path) -> None:
    imported(service, FACES, "faces")

    assert service.cdm("datasets", "show", FACES, "--preview", "faces.png").code == 0

    assert (tmp_path / "faces.png").read_bytes() == b"PNG"
    assert service.client.datasets.preview(FACES) == b"PNG"


def test_one_that_nobody_needs_is_removed_and_one_that_is_needed_is_not(service: Service) -> None:
    imported(service, FACES, "faces")
    imported(service, CATS, "cats")
    training = service.submit("--set", f"dataset={{kind: imported, digest: {CATS}}}")

    kept, removed = service.cdm("datasets", "delete", CATS), service.cdm("datasets", "delete", FACES[:8])

    assert kept.code == 1
    assert training in kept.err
    assert removed.out == f"removed {FACES}\n"
    assert [one.digest for one in service.client.datasets.list()] == [CATS]
    assert list(service.client.datasets.list(digest_prefix=FACES[:8])) == []
    assert [one.digest for one in service.client.datasets.list(digest_prefix=CATS[:8])] == [CATS]
    with pytest.raises(Conflict):
        service.client.datasets.delete(CATS)
    with pytest.raises(NotFound):
        service.client.datasets.retrieve(FACES)


def test_evaluations_that_follow_a_training_measure_at_held_out_images_too(service: Service) -> None:
    imported(service, FACES, "faces")
    imported(service, CATS, "cats")
    on_faces = ("--set", f"dataset={{kind: imported, digest: {FACES[:16]}}}")

    def refused(digest: str, *more: str) -> str:
        return service.cdm("submit", "smoke", *on_faces, "--evaluate", f"held_out={digest}", *more).err

    training = service.submit(*on_faces, "--evaluate", f"held_out={CATS[:16]}")
    service.worker(training)
    service.checkpoint(training, 160)
    (follows,) = wait_until(lambda: list(service.client.jobs.list(labels={OF_JOB: training})))

    assert follows.spec.held_out == CATS
    assert (
        refused(FACES) == "error: evaluations.held_out: these are the images that the job learned from; name others\n"
    )
    assert refused("d" * 64).startswith("error: evaluations.held_out: there is no image set dddd")
    assert "evaluations.held_out: nothing is measured of them" in refused(CATS, "--evaluate", "drift_images=0")


def test_a_document_may_name_images_by_the_beginning_of_their_digest(service: Service) -> None:
    imported(service, FACES, "faces")
    imported(service, CATS, "cats")

    training = service.submit("--set", f"dataset={{kind: imported, digest: {FACES[:16]}}}")
    service.checkpoint(training, 160)
    evaluated = service.cdm("evaluate", training, "--images", "16", "--held-out", CATS[:16], "--json")
    unknown = service.cdm("submit", "smoke", "--set", "dataset={kind: imported, digest: DIGEST}")

    assert service.client.jobs.retrieve(training).spec.dataset.digest == FACES
    assert evaluated.document["spec"]["held_out"] == CATS
    assert unknown.err == "error: no data sets begin with DIGEST: `cdm datasets` lists them\n"


@pytest.mark.parametrize(
    ("digest", "message"),
    [
        ("00", "error: no data sets begin with 00: `cdm datasets` lists them\n"),
        ("0" * 64, f"error: this project has no data set {'0' * 64}"),
        ("", "error: 2 data sets begin with : `cdm datasets` lists them\n"),
    ],
)
def test_one_that_is_not_there_is_one_line(service: Service, digest: str, message: str) -> None:
    imported(service, FACES, "faces")
    imported(service, CATS, "cats")

    answer = service.cdm("datasets", "show", digest)

    assert (answer.code, answer.err.count("\n")) == (1, 1)
    assert answer.err.startswith(message)
