"""What a job can be asked on the command line, against the real application."""

import io
import sys
from datetime import UTC, datetime
from threading import Thread

import pytest

from service.cli.inheritance import STUDY_REQUEST
from service.cluster.base import Resources
from service.jobs.views import EvaluateEach, Fork, JobState
from tests.support import served
from tests.support.command import Command
from tests.support.served import Service
from tests.support.waiting import wait_until
from workers.contract.presets import PRESETS


def test_labels_are_set_taken_away_and_filtered_by(service: Service) -> None:
    job = service.submit("--label", "team=vision", "--label", "run=1")
    service.submit("--label", "team=audio")

    labelled = service.cdm("label", job, "run-", "stage=a=b")

    assert labelled.out == f"{job}: stage=a=b team=vision\n"
    assert [each["id"] for each in service.cdm("jobs", "--label", "team=vision", "--json").document] == [job]
    assert "stage=a=b team=vision" in service.cdm("show", job).out
    assert "write key=value to set a label" in service.cdm("label", job, "team").err
    assert "write it as key=value" in service.cdm("jobs", "--label", "team").err


def test_what_can_be_changed_of_a_job_is_changed_at_once_and_the_rest_stays(service: Service) -> None:
    job = service.submit("--name", "first", "--label", "team=vision", "--label", "run=1", "--max-runtime", "1h")

    changed = service.cdm(
        *("update", job, "--priority", "high", "--max-runtime", "2h30m"),
        *("--label", "stage=two", "--label", "run-"),
    )
    renamed = service.cdm("update", job, "--name", "second", "--json").document
    cleared = service.cdm("update", job, "--name", "", "--max-runtime", "none")

    labels = "labels stage=two team=vision"
    assert changed.out == f"{job} now has name first, {labels}, priority high, time limit 2:30:00\n"
    assert (renamed["name"], renamed["priority"], renamed["max_runtime_seconds"]) == ("second", "high", 9000)
    assert cleared.out == f"{job} now has name none, {labels}, priority high, time limit none\n"
    assert service.client.jobs.retrieve(job).labels == {"team": "vision", "stage": "two"}


def test_a_change_of_nothing_and_a_label_that_is_none_are_refused(service: Service) -> None:
    job = service.submit()

    assert "give --name, --label, --priority or --max-runtime" in service.cdm("update", job).err
    assert "write key=value to set a label" in service.cdm("update", job, "--label", "team").err
    assert "is no duration" in service.cdm("update", job, "--max-runtime", "7").err
    assert [event.type for event in service.client.jobs.events(job)].count("updated") == 0


def test_a_job_that_has_ended_is_renamed_as_well(service: Service) -> None:
    job = service.ended()

    assert service.cdm("update", job, "--name", "kept", "--json").document["name"] == "kept"


def test_a_job_is_paused_and_resumed(service: Service) -> None:
    job = service.submit()
    worker = service.worker(job)
    service.script.last_words = lambda: worker.outcome("stopped", at=datetime.now(UTC))

    assert service.cdm("pause", job).out.startswith(f"{job} is paus")
    wait_until(lambda: service.client.jobs.retrieve(job).state is JobState.PAUSED)
    assert service.cdm("resume", job).out == f"{job} is queued\n"


def test_what_is_not_possible_is_refused_with_what_is(service: Service) -> None:
    job = service.ended()

    refused = service.cdm("pause", job)

    assert refused.code == 1
    assert refused.err.startswith(f"error: {job} is succeeded: it cannot pause; possible: archive, delete, fork")


def test_a_failed_job_is_tried_again(service: Service) -> None:
    job = service.ended(status="failed")

    assert service.cdm("retry", job).out == f"{job} is queued\n"


def test_an_archived_job_is_out_of_the_lists_until_it_is_restored(service: Service) -> None:
    job = service.ended()

    service.cdm("archive", job)

    assert service.cdm("jobs").out == "no jobs\n"
    assert job in service.cdm("jobs", "--archived").out
    assert service.cdm("restore", job).out == f"{job} is in the lists again\n"
    assert job in service.cdm("jobs").out


def test_an_archived_job_is_found_by_the_beginning_of_its_id_and_as_the_latest_to_restore(service: Service) -> None:
    none = service.cdm("restore", "latest")
    archived, other = service.ended(), service.submit()
    service.cdm("archive", archived)
    beginning = archived[:-1]

    unknown = service.cdm("restore", other[:-1])
    shown = service.cdm("show", beginning, "--json").document
    by_name = service.cdm("restore", beginning)
    service.cdm("archive", archived)

    assert none.err == "error: no jobs are archived\n"
    assert unknown.err == f"error: no archived jobs begin with {other[:-1]}: `cdm jobs --archived` lists them\n"
    assert shown["id"] == archived
    assert by_name.out == service.cdm("restore", "latest").out == f"{archived} is in the lists again\n"
    service.cdm("archive", archived)
    assert service.cdm("delete", beginning, "--yes", "--json").document["deleted"] == archived


def test_mlflow_is_told_again_of_a_job_that_has_ended(service: Service) -> None:
    running = service.submit()
    refused = service.cdm("replay", running)
    job = service.ended()
    wait_until(lambda: service.mlflow.runs == {"run1": "FINISHED"})
    service.mlflow.runs["run1"] = "RUNNING"

    answer = service.cdm("replay", job)

    assert refused.code == 1
    assert "it cannot replay; its workers still tell MLflow: wait until it has ended" in refused.err
    assert answer.out == f"{job} is told to MLflow again\n"
    wait_until(lambda: service.mlflow.runs == {"run1": "FINISHED"})
    assert [event.type for event in service.client.jobs.events(job)][-1] == "replay_asked"


def test_nothing_is_deleted_without_being_said_twice(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    job = service.ended("--name", "first")
    monkeypatch.setattr(sys, "stdin", io.StringIO(""))

    refused = service.cdm("delete", job)
    deleted = service.cdm("delete", job, "--purge", "logs", "--purge", "samples", "--yes")
    gone = service.cdm("show", job)

    assert refused.code == 2
    assert refused.err == (
        f"error: deleting {job} (first) cannot be undone; what checkpoints, samples, logs, results, metrics, exports "
        "it has left stay in the object store unless --purge names them: say so with --yes\n"
    )
    assert deleted.out == (
        f"deleted {job} (first), with its logs and samples; what checkpoints, results, metrics, exports it has left "
        "stay in the object store\n"
    )
    assert gone.code == 1
    assert gone.err.startswith(f"error: {job} was deleted at 20")


def test_a_job_with_all_that_it_has_left_is_deleted_without_a_rest(service: Service) -> None:
    job = service.ended()
    names = ["checkpoints", "samples", "logs", "results", "metrics", "exports"]
    everything = [part for name in names for part in ("--purge", name)]

    document = service.cdm("delete", job, "--yes", *everything, "--json").document

    assert document == {"deleted": job, "purged": names, "kept": []}


def test_a_fork_shows_where_it_starts_and_what_is_other(service: Service) -> None:
    parent = service.ended("--name", "parent")
    early = service.cdm("fork", parent)
    service.checkpoint(parent, 160)

    forked = service.cdm("fork", parent, "--at", "160", "--set", "optimizer.learning_rate=1e-4", "--label", "try=2")
    child = next(service.client.jobs.list())

    assert early.code == 1
    assert "it has ended without any" in early.err
    assert forked.out.splitlines() == [
        f"forked {child.id} from {parent} at 160 images: follow it with `cdm watch {child.id}`",
        "with these changes:",
        "  optimizer.learning_rate: 0.001 -> 0.0001",
    ]
    assert (child.labels, child.parent and child.parent.job_id) == ({"try": "2"}, parent)
    assert f"{parent} at 160 images" in service.cdm("show", child.id).out
    elsewhere = service.cdm("fork", parent, "--at", "200")
    assert elsewhere.err == f"error: {parent} has no such checkpoint: it has them at 160\n"
    assert "network: a checkpoint can only go on with the same" in _fork_of_the_network(service, parent)
    assert "give one of them" in service.cdm("fork", parent, "--at", "1", "--best", "loss/dsm").err


def test_a_fork_has_the_labels_of_its_parent_with_what_is_said_otherwise(service: Service) -> None:
    parent = service.ended("--label", "sweep=rate", "--label", "rate=1", "--label", f"{STUDY_REQUEST}=c0ffee")
    service.checkpoint(parent, 160)

    fork = service.cdm("fork", parent, "--label", "rate-", "--label", "try=2", "--json").document["job"]

    assert fork["labels"] == {"sweep": "rate", "try": "2"}


def test_a_fork_is_planned_warned_of_and_followed_as_what_is_submitted(service: Service) -> None:
    parent = service.ended()
    none_yet = service.cdm("fork", parent, "--dry-run")
    service.checkpoint(parent, 160)
    service.cluster.total = Resources(cpus=2.0, gpus=0.0)
    on_gpus = ("--set", "compute.accelerator=gpu")

    planned = service.cdm("fork", parent, "--dry-run", *on_gpus)
    jobs = list(service.client.jobs.list())
    forked = service.cdm("fork", parent, *on_gpus)
    new = next(service.client.jobs.list())
    ending = Thread(target=lambda: service.client.jobs.cancel(new_job(service, new.id)))
    ending.start()
    watched = service.cdm("fork", parent, "--watch", *on_gpus)
    ending.join()

    assert "it has ended without any" in none_yet.err
    assert "it needs 2 gpu workers" in planned.out
    assert [job.id for job in jobs] == [parent]
    assert forked.err.startswith("warning: it needs 2 gpu workers, and all nodes together have room for 0")
    assert watched.code == 3


def new_job(service: Service, before: str) -> str:
    """The id of the newest, once it is another."""
    return wait_until(lambda: (newest := next(service.client.jobs.list()).id) != before and newest)


def test_a_fork_is_evaluated_as_its_parent_with_what_is_said_otherwise(service: Service) -> None:
    parent = service.ended("--evaluate-every", "160", "--evaluate", "num_images=2000")
    service.checkpoint(parent, 160)

    def evaluations(*options: str) -> EvaluateEach | None:
        return Fork.model_validate_json(service.cdm("fork", parent, *options, "--json").out).job.evaluations

    assert evaluations() == EvaluateEach(every_images=160, num_images=2000)
    assert evaluations("--evaluate", "num_images=100") == EvaluateEach(every_images=160, num_images=100)
    assert evaluations("--evaluate-every", "40") == EvaluateEach(every_images=40, num_images=2000)
    assert evaluations("--no-evaluations") is None
    mistaken = service.cdm("fork", parent, "--no-evaluations", "--evaluate-every", "40")
    assert "there are none, so leave out --evaluate-every and --evaluate" in mistaken.err


def _fork_of_the_network(service: Service, parent: str) -> str:
    return service.cdm("fork", parent, "--set", "network.channels=16").err


def test_a_dry_run_says_what_would_come_of_it_and_writes_nothing_down(service: Service) -> None:
    planned = service.cdm("submit", "smoke", "--dry-run", "--max-runtime", "1h30m")

    assert planned.code == 0
    assert "position 1" in planned.out
    assert "no like job has been seen" in planned.out
    assert service.cdm("jobs").out == "no jobs\n"
    assert service.cdm("submit", "smoke", "--dry-run", "--json").document["queue_position"] == 1


def test_priority_and_time_limit_are_handed_on(service: Service) -> None:
    job = service.client.jobs.retrieve(service.submit("--priority", "high", "--max-runtime", "1h30m"))

    assert (job.priority, job.max_runtime_seconds) == ("high", 5400)


@pytest.mark.parametrize("text", ["7", "", "2 h", "1h-30m", "h"])
def test_a_duration_needs_units(cdm: Command, text: str) -> None:
    answer = cdm("submit", "smoke", "--max-runtime", text, "--url", "http://127.0.0.1:1", "--key", "k")

    assert answer.err == f"error: {text!r} is no duration: write it with units, for example 2h30m, 90s or 1d\n"


def test_the_queue_says_who_waits_and_why(service: Service) -> None:
    empty = service.cdm("queue")
    jobs = [service.client.jobs.create(PRESETS["smoke"]).id for _ in range(served.MAX_ACTIVE + 1)]
    wait_until(lambda: service.client.jobs.retrieve(jobs[-1]).reason)

    (entry,) = service.cdm("queue", "--json").document
    words = service.cdm("show", jobs[-1]).out

    assert empty.out == "no jobs wait\n"
    assert (entry["id"], entry["queue_position"]) == (jobs[-1], 1)
    assert entry["message"] in words
    assert entry["message"] in service.cdm("queue").out
    assert f"({entry['reason']}: {entry['message']})" in words
    assert "train" in service.cdm("queue").out.splitlines()[1].split()
