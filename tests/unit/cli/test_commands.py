"""The commands against the real application behind a real socket, its engine in memory."""

import json
import threading
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from service.cli import jobs
from service.cli.documents import load
from service.cluster.base import Resources
from service.jobs.views import COMPARES, CONTROL_OF, EvaluateEach
from tests.support.command import Answer, Command
from tests.support.plane import KEY
from tests.support.served import Service
from tests.support.waiting import wait_until
from workers.contract.features import FID_SHA256, Inception
from workers.contract.keys import JobKeys
from workers.contract.presets import PRESETS
from workers.contract.records import DeliveryDelay

PNG = b"\x89PNG\r\n\x1a\n..."


def later(action: Any, *arguments: Any, **named: Any) -> threading.Thread:
    thread = threading.Thread(target=action, args=arguments, kwargs=named)
    thread.start()
    return thread


def test_a_submitted_job_is_named_listed_and_shown(service: Service) -> None:
    answer = service.cdm("submit", "smoke", "--name", "first", "--set", "seed=5")
    job = next(service.client.jobs.list())

    assert answer.code == 0
    assert f"cdm watch {job.id}" in answer.out
    assert (job.name, job.spec.seed) == ("first", 5)
    assert job.id in service.cdm("jobs").out
    assert "first" in service.cdm("show", job.id).out
    assert [each["id"] for each in service.cdm("jobs", "--json").document] == [job.id]
    assert service.cdm("show", job.id, "--json").document["allowed"]


def test_a_list_that_is_cut_says_so_beside_the_answer(service: Service) -> None:
    service.submit()
    service.submit()

    cut, whole = service.cdm("jobs", "--limit", "1", "--json"), service.cdm("jobs", "--limit", "2", "--json")
    audit = service.cdm("audit", "--limit", "1")

    assert (len(cut.document), cut.err) == (1, "there are more than these: see them with a higher --limit\n")
    assert (len(whole.document), whole.err) == (2, "")
    assert (len(audit.out.splitlines()), audit.err) == (2, cut.err)


def test_a_queue_as_long_as_is_listed_may_be_longer(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    service.cluster.reachable = False
    service.submit()

    whole = service.cdm("queue")
    monkeypatch.setattr(jobs, "MOST_QUEUED", 1)

    assert whole.err == ""
    assert service.cdm("queue", "--json").err == "these are the first 1: there may be more\n"


def test_a_list_and_a_job_say_of_what_kind_it_is_and_what_is_planned(service: Service) -> None:
    trained = service.submit("--evaluate-every", "160", "--evaluate", "num_images=2000", "--priority", "high")
    service.checkpoint(trained, 160)
    drawn = service.cdm("sample", trained, "--json").document["id"]
    plain = service.submit()
    compared = service.cdm("compare", trained, plain, "--json").document["id"]

    rows = {row.split()[0]: row.split()[1] for row in service.cdm("jobs").out.splitlines()}
    shown = {job: [" ".join(line.split()) for line in service.cdm("show", job).out.splitlines()] for job in rows}

    assert rows == {"JOB": "KIND", trained: "train", plain: "train", drawn: "sample", compared: "compare"}
    assert "kind train" in shown[trained]
    assert "priority high" in shown[trained]
    assert "evaluations every 160 images, 2,000 images drawn each time" in shown[trained]
    assert f"kind sample of {trained}" in shown[drawn]
    assert f"kind compare of {trained} and {plain}" in shown[compared]


def test_jobs_of_a_sweep_are_listed_with_their_latest_metrics(service: Service) -> None:
    drawn, first, second = (
        service.cdm("import", "fashion16.zip", "--no-upload", "--label", "sweep=rate", "--json").document["id"],
        *(service.submit("--label", "sweep=rate", "--label", f"rate={rate}") for rate in ("1e-3", "5e-4")),
    )
    service.mlflow.curves |= {"loss/dsm": {160: 0.5, 320: 0.25}}
    service.worker(first).progress(at=datetime.now(UTC))
    wait_until(lambda: service.client.jobs.metrics(first))

    asked = ("jobs", "--label", "sweep=rate", "--metric", "loss/dsm", "--metric", "eval/FID")
    head, *rows = service.cdm(*asked).out.splitlines()
    documents = service.cdm(*asked, "--json").document

    assert " ".join(head.split()) == "JOB KIND NAME STATE IMAGES loss/dsm eval/FID CREATED CREATED BY LABELS"
    (row,) = [row for row in rows if row.startswith(first)]
    assert " 0.25 " in row
    assert row.endswith("rate=1e-3 sweep=rate")
    assert {each["id"]: each["metrics"] for each in documents} == {first: {"loss/dsm": 0.25}, second: {}, drawn: {}}


def test_a_training_is_submitted_with_evaluations_that_follow_it_and_a_control(
    service: Service, tmp_path: Path
) -> None:
    (tmp_path / "fid.pth").touch()
    features = "{kind: inception, weights: fid.pth, sha256: " + FID_SHA256 + "}"
    job = service.client.jobs.retrieve(
        service.submit(
            *("--evaluate-every", "160", "--evaluate", "num_images=2000", "--evaluate", f"features={features}"),
            *("--control", "edm"),
        )
    )

    inception = Inception(kind="inception", weights=str(tmp_path / "fid.pth"), sha256=FID_SHA256)
    assert job.evaluations == EvaluateEach(every_images=160, num_images=2000, features=inception)
    assert service.client.jobs.retrieve(job.control_job_id or "").labels == {CONTROL_OF: job.id}


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("--control", "edm"), 2, "--control: a control is compared by evaluations: give --evaluate-every IMAGES, too"),
        (
            ("--evaluate", "num_images"),
            2,
            "--evaluate num_images: write it as key=value, for example --evaluate num_im",
        ),
        (("--evaluate", "num_images=1"), 1, "1 field is wrong: evaluations.num_images: "),
        (
            ("--evaluate-every", "9", "--control", "edm", "--set", "objective.consistency=null"),
            1,
            "control: only trainings with objective.consistency have one; leave it out",
        ),
    ],
)
def test_what_cannot_follow_a_training_is_refused_in_one_line(
    service: Service, arguments: tuple[str, ...], code: int, message: str
) -> None:
    answer = service.cdm("submit", "smoke", *arguments)

    assert (answer.code, answer.out, answer.err.count("\n")) == (code, "", 1)
    assert answer.err.startswith(f"error: {message}")
    assert list(service.client.jobs.list()) == []


def test_the_command_says_of_which_release_it_is(cdm: Command) -> None:
    assert cdm("--version").out == f"cdm-train {version('cdm-train')}\n"


def test_a_training_leads_to_its_control_and_to_the_comparison_with_it(
    service: Service, evaluation: dict[str, Any]
) -> None:
    submitted = service.cdm("submit", "smoke", "--evaluate-every", "160", "--control", "edm")
    job = next(job for job in service.client.jobs.list() if job.control_job_id)
    found = evaluation | {"checkpoint": {"job_id": job.id, "images_seen": 160, "average": "ema"}}
    service.store.put(JobKeys(job.id).evaluation(160, 1, "job_by"), json.dumps(found).encode())
    before = service.cdm("show", job.id)
    for one in (job.id, job.control_job_id or ""):
        service.end(one, "succeeded")
    (comparison,) = wait_until(lambda: list(service.client.jobs.list(labels={COMPARES: job.id})))

    shown, results = service.cdm("show", job.id), service.cdm("results", job.id)

    follow = f"follow it with `cdm watch {job.id}`"
    assert submitted.out == f"submitted {job.id}, and its control {job.control_job_id}: {follow}\n"
    assert "follows once this and its control are trained and evaluated" in before.out
    for answer in (shown, results):
        assert f"`cdm results {comparison.id}`" in answer.out
    assert service.cdm("show", job.id, "--json").document["comparison_job_id"] == comparison.id


def test_watching_ends_with_the_job_and_its_exit_code_says_how(service: Service) -> None:
    for status, code in (("succeeded", 0), ("failed", 4)):
        job = service.submit()
        ending = later(service.end, job, status, reason="data_error" if code else None, message="the last word")

        answer = service.cdm("watch", job)
        ending.join()

        assert answer.code == code
        assert status in answer.out.splitlines()[-1]


def test_a_job_cancelled_elsewhere_ends_watching_with_three(service: Service) -> None:
    job = service.submit()

    def cancel() -> None:
        service.worker(job)
        service.client.jobs.cancel(job)

    cancelling = later(cancel)
    answer = service.cdm("watch", job)
    cancelling.join()

    assert answer.code == 3


def test_watching_in_json_is_one_document_a_line(service: Service) -> None:
    job = service.submit()
    ending = later(service.end, job, "succeeded")

    answer = service.cdm("watch", job, "--json")
    ending.join()

    states = [Answer(0, line, "").document["state"] for line in answer.out.splitlines()]
    assert states[-1] == "succeeded"


def test_cancelling_and_waiting_returns_when_the_job_has_ended(service: Service) -> None:
    job = service.submit()
    worker = service.worker(job)
    service.script.last_words = lambda: worker.outcome("stopped", at=datetime.now(UTC), message="checkpoint at 320")

    answer = service.cdm("cancel", job, "--wait", "--json")

    assert answer.document["state"] == "cancelled"
    again = service.cdm("cancel", job)
    assert again.code == 1
    assert again.err.startswith("error: ")


def test_a_job_whose_tracking_is_behind_is_shown_with_what_waits(service: Service) -> None:
    job, now = service.submit(), datetime.now(UTC)
    behind = DeliveryDelay(waiting=12_000, since=now - timedelta(minutes=5))
    service.worker(job).progress(at=now, behind={"mlflow": behind})

    shown = wait_until(lambda: "12,000 records wait" in (out := service.cdm("show", job).out) and out)

    [line] = [line for line in shown.splitlines() if line.startswith("TrackingCurrent")]
    assert "no since" in line
    assert "(MLflow has taken nothing for 5 min: " in line


def test_the_newest_grid_is_fetched_to_a_file(service: Service, tmp_path: Path) -> None:
    job = service.submit()
    early = service.cdm("images", job)
    service.store.put(JobKeys(job).sample(160), b"older")
    service.store.put(JobKeys(job).sample(320), PNG)

    answer = service.cdm("images", job, "-o", "grid.png", "--json")

    assert early.code == 1
    assert "drawn nothing yet: its first images come after 160 images" in early.err
    assert answer.document == {"job": job, "images_seen": 320, "path": str(tmp_path / "grid.png")}
    assert (tmp_path / "grid.png").read_bytes() == PNG
    assert "cannot write" in service.cdm("images", job, "-o", "missing/grid.png").err


def test_earlier_grids_are_fetched_by_their_checkpoints_or_all_into_a_folder(service: Service, tmp_path: Path) -> None:
    job = service.submit()
    for images_seen in (160, 320):
        service.store.put(JobKeys(job).sample(images_seen), PNG + str(images_seen).encode())

    early = service.cdm("images", job, "--at", "160", "--json").document
    every = service.cdm("images", job, "--all", "-o", "out/grids", "--json").document

    assert (early["images_seen"], Path(early["path"]).read_bytes()) == (160, PNG + b"160")
    assert [(each["images_seen"], each["path"]) for each in every] == [
        (images_seen, str(tmp_path / "out" / "grids" / f"{job}-{images_seen}.png")) for images_seen in (160, 320)
    ]
    assert Path(every[1]["path"]).read_bytes() == PNG + b"320"
    assert service.cdm("images", job, "--at", "100").err == (
        f"error: {job} has no images at 100 images seen: it has them at 160, 320\n"
    )
    assert "give one of them" in service.cdm("images", job, "--at", "160", "--all").err


def test_a_job_of_a_service_elsewhere_is_followed_there(service: Service) -> None:
    there = ("--url", service.url, "--key", KEY)
    submitted = service.cdm("submit", "smoke", *there, "--project", "default")
    job = next(service.client.jobs.list()).id

    assert submitted.out == (
        f"submitted {job}: follow it with `cdm watch {job} --url {service.url} --project default`\n"
    )
    assert f"`cdm jobs --url {service.url}` lists them" in service.cdm("show", "job_X", *there).err


def test_what_a_plan_warns_of_is_said_of_a_job_that_is_submitted(service: Service) -> None:
    service.cluster.total = Resources(cpus=2.0, gpus=0.0)

    submitted = service.cdm("submit", "smoke", "--set", "compute.accelerator=gpu", "--json")

    assert submitted.document["state"] == "queued"
    assert submitted.err == (
        "warning: it needs 2 gpu workers, and all nodes together have room for 0: "
        "set compute.workers or compute.accelerator, or it waits for more nodes\n"
    )


def test_a_key_that_came_from_the_environment_is_said_to(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CDM_API_KEY", "stray")

    for answer in (service.cdm("jobs").err, service.cdm("doctor").out):
        assert "the key is that of CDM_API_KEY: unset it, and the stack's own is taken" in answer
    assert "CDM_API_KEY" not in service.cdm("jobs", "--key", "wrong").err


def test_groups_of_commands_that_list_do_so_alone(service: Service) -> None:
    assert service.cdm("keys").out == "no keys\n"
    assert service.cdm("projects").out.startswith("PROJECT ")
    assert service.cdm("webhooks").out == "no webhooks\n"


def test_a_wrong_key_is_an_error_of_one_line(service: Service) -> None:
    answer = service.cdm("jobs", "--key", "wrong")

    assert answer.code == 1
    assert answer.err.startswith("error: ")
    assert answer.err.count("\n") == 1


def test_presets_are_listed_and_one_shown_in_full_is_a_file_to_submit(cdm: Command, tmp_path: Path) -> None:
    for name in PRESETS:
        (tmp_path / "job.yaml").write_text(cdm("presets", name).out)
        assert load("job.yaml") == load(name)

    assert "\n  checkpoint_images: 160  # " in cdm("presets", "smoke").out
    rows = [" ".join(line.split()) for line in cdm("presets").out.splitlines()]
    assert "cifar10-uncond 200,000,000 8 GPUs datasets/cifar10-32x32.zip" in rows
    assert "own32 15,360 2 CPUs datasets/own at 32 x 32" in rows
    assert set(cdm("presets", "--json").document) == set(PRESETS)
