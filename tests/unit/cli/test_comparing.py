"""`cdm study` against the real application: what it submits, and that it goes on with it."""

import sqlite3
from contextlib import closing
from pathlib import Path
from threading import Thread

import pytest

from service.cli import watching
from service.jobs.views import CONTROL_OF, Job
from tests.support.command import Answer
from tests.support.served import Service
from tests.support.waiting import wait_until
from workers.contract.features import FID_SHA256, Inception

STUDY = ("study", "smoke", "--name", "my faces: ä", "--evaluate", "drift_images=2")


def failing(service: Service, *arguments: str) -> Answer:
    """A study whose training fails as soon as it runs; one that has ended already is not waited for."""
    before = {job.id for job in service.client.jobs.list()}

    def fail() -> None:
        new = wait_until(lambda: [job for job in service.client.jobs.list() if job.id not in before])
        (job,) = [job for job in new if CONTROL_OF not in job.labels]
        service.end(job.id, "failed", reason="data_error")

    ending = Thread(target=fail)
    ending.start()
    answer = service.cdm(*STUDY, *arguments)
    ending.join()
    return answer


def trainings(service: Service) -> list[Job]:
    """Without their controls, newest first."""
    return [job for job in service.client.jobs.list(labels={"study": "my faces: ä"}) if CONTROL_OF not in job.labels]


def test_a_study_that_is_given_again_when_its_idempotency_keys_are_forgotten_goes_on_with_its_jobs(
    service: Service, tmp_path: Path
) -> None:
    first = failing(service)
    (job,) = trainings(service)
    with closing(sqlite3.connect(tmp_path / "service.db")) as database, database:
        database.execute("DELETE FROM idempotency_keys")

    again = service.cdm(*STUDY)
    service.client.jobs.archive(job.id)
    archived = service.cdm(*STUDY)

    for answer in (first, again, archived):
        assert answer.out.startswith(f"job: {job.id}\n")
        assert answer.err.startswith(
            f"error: {job.id} ended otherwise than hoped: failed (data_error: done); see `cdm logs"
        )
    assert trainings(service) == []
    assert job.name == "my faces: ä job"


def test_a_job_of_a_study_that_was_deleted_is_followed_by_another(service: Service) -> None:
    for _ in range(3):
        failing(service)
        (job,) = trainings(service)
        service.client.jobs.delete(job.id)

    assert trainings(service) == []
    answer = failing(service)
    (new,) = trainings(service)
    assert answer.out.startswith(f"job: {new.id}\n")


def test_a_training_beside_itself_is_refused_in_one_line(service: Service) -> None:
    job = service.submit()

    answer = service.cdm("compare", job, job)

    assert answer.err == "error: 1 field is wrong: control_job_id: is the same job; name another one\n"


@pytest.mark.parametrize("other", [("--evaluate", "num_images=2000"), ("--set", "seed=7")])
def test_a_name_of_a_study_that_asked_for_something_else_is_refused(service: Service, other: tuple[str, ...]) -> None:
    failing(service)
    (job,) = trainings(service)

    refused = service.cdm(*STUDY, *other)

    assert refused.err == (
        f"error: the study my faces: ä has begun otherwise, with {job.id}: "
        "give another --name, or ask for the same as then\n"
    )
    assert trainings(service) == [job]


def test_other_images_under_the_name_of_a_study_are_refused_before_they_are_imported(service: Service) -> None:
    failing(service, "--set", "dataset={kind: npz, path: /data/images.npz, channels: 1}")
    (job,) = service.client.jobs.list()

    refused = service.cdm(*STUDY, "--set", "dataset={kind: npz, path: /data/others.npz, channels: 1}")

    assert f"has begun otherwise, with {job.id}" in refused.err
    assert [one.id for one in service.client.jobs.list()] == [job.id]


def test_a_study_that_is_interrupted_says_that_it_goes_on(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **__: object) -> Job:
        raise KeyboardInterrupt

    monkeypatch.setattr(watching, "watch", interrupted)

    answer = service.cdm(*STUDY)

    assert answer.code == 130
    assert answer.out.endswith(
        "its jobs go on: `cdm jobs --label 'study=my faces: ä'` lists them, "
        "and the same command goes on with the study\n"
    )
    assert len(trainings(service)) == 1


def test_images_are_imported_once_for_both_and_that_is_gone_on_with_as_well(service: Service) -> None:
    images = ("--set", "dataset={kind: npz, path: /data/images.npz, channels: 1}")

    first, again = failing(service, *images), service.cdm(*STUDY, *images)

    (job,) = service.client.jobs.list()
    assert (job.name, job.spec.kind) == ("my faces: ä import", "import")
    for answer in (first, again):
        assert answer.out.startswith(f"import: {job.id}\n")
        assert f"`cdm retry {job.id}`" in answer.err


def test_distances_are_measured_in_features_of_ones_own(service: Service, tmp_path: Path) -> None:
    (tmp_path / "fid.pth").touch()

    features = f"features={{kind: inception, weights: fid.pth, sha256: {FID_SHA256}}}"
    failing(service, "--evaluate", features, "--evaluate", "repeats=3", "--evaluate-every", "160")

    (job,) = trainings(service)
    assert job.evaluations
    assert job.evaluations.features == Inception(kind="inception", weights=str(tmp_path / "fid.pth"), sha256=FID_SHA256)
    assert (job.evaluations.repeats, job.evaluations.every_images) == (3, 160)


@pytest.mark.parametrize(
    ("features", "message"),
    [
        ("{kind: ", "--evaluate features={kind: : the value is not YAML; quote it"),
        ("{kind: inception}", "2 fields are wrong: evaluations.features.weights: this field is required; "),
        ("lite0", "1 field is wrong: evaluations.features: "),
    ],
)
def test_features_that_are_none_are_refused_before_anything_is_sent(
    service: Service, features: str, message: str
) -> None:
    answer = service.cdm(*STUDY, "--evaluate", f"features={features}")

    assert answer.err.startswith(f"error: {message}")
    assert answer.err.count("\n") == 1
    assert list(service.client.jobs.list()) == []


@pytest.mark.parametrize("name", ["", "n" * 91, "a\tb", "a\n"])
def test_a_name_that_no_job_can_have_is_refused_before_anything_is_sent(service: Service, name: str) -> None:
    answer = service.cdm("study", "smoke", "--name", name)

    assert answer.err == f"error: --name {name!r}: give 1 to 90 characters, no control characters among them\n"
    assert list(service.client.jobs.list()) == []


def test_evaluations_that_could_never_be_made_are_refused_before_anything_is_imported(service: Service) -> None:
    images = ("--set", "dataset={kind: npz, path: /data/images.npz, channels: 1}")

    answer = service.cdm("study", "smoke", "--name", "alone", "--evaluate", "drift_images=1", *images)

    assert answer.err == (
        "error: 1 field is wrong: evaluations.drift_images: a spread takes two images or more; 0: none\n"
    )
    assert list(service.client.jobs.list()) == []
