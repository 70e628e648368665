"""A job again, with changes: what is taken over from an earlier one, and what is not."""

import json
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, HTTPServer

from service.cli.inheritance import STUDY_REQUEST
from service.jobs.views import CONTROL_OF, EvaluateEach, Job
from tests.support.answering import answering
from tests.support.command import Command
from tests.support.job_views import job_view
from tests.support.served import Service


def submitted(service: Service, *arguments: str) -> Job:
    answer = service.cdm("submit", *arguments, "--json")
    assert answer.code == 0, answer.err
    return Job.model_validate_json(answer.out)


def out_of_memory(service: Service, *arguments: str) -> str:
    """A job that did not get as far as a checkpoint."""
    job = service.submit("--set", "seed=5", *arguments)
    service.worker(job).progress(at=datetime.now(UTC), images_seen=0)
    service.end(job, "failed", reason="out_of_memory", message="lower compute.microbatch_images")
    service.client.jobs.wait(job, timeout=30, poll_seconds=0.02)
    return job


def test_a_job_that_failed_before_its_first_checkpoint_begins_anew_with_changes(service: Service) -> None:
    wanted = ("--label", "sweep=rate", "--label", "rate=1e-3", "--evaluate-every", "160")
    failed = out_of_memory(service, *wanted, "--evaluate", "num_images=2000")

    shown = service.cdm("show", failed).out
    again = submitted(service, "--like", failed, "--set", "compute.microbatch_images=8", "--label", "try=2")

    before = service.client.jobs.retrieve(failed)
    assert f"`cdm submit --like {failed} --set KEY=VALUE` begins anew" in shown
    assert again.spec.kind == before.spec.kind == "train"
    assert again.spec.compute == before.spec.compute.model_copy(update={"microbatch_images": 8})
    assert again.spec.model_copy(update={"compute": before.spec.compute}) == before.spec
    assert again.labels == {"sweep": "rate", "rate": "1e-3", "try": "2"}
    assert again.evaluations == before.evaluations == EvaluateEach(every_images=160, num_images=2000)
    assert (again.parent, again.name) == (None, None)


def test_labels_and_evaluations_are_changed_and_left_out(service: Service) -> None:
    before = service.submit("--label", "rate=1", "--label", "old=1", "--evaluate-every", "160")

    changed = submitted(service, "--like", before, "--label", "rate=2", "--label", "old-", "--evaluate", "repeats=3")
    without = submitted(service, "--like", "latest", "--no-evaluations")

    assert (changed.labels, changed.evaluations) == ({"rate": "2"}, EvaluateEach(every_images=160, repeats=3))
    assert (without.labels, without.evaluations) == ({"rate": "2"}, None)


def test_labels_by_which_that_job_is_found_stay_with_it(service: Service) -> None:
    paired = service.submit("--evaluate-every", "160", "--control", "edm", "--label", f"{STUDY_REQUEST}=c0ffee")
    control = service.client.jobs.retrieve(paired).control_job_id or ""

    again = service.cdm("submit", "--like", paired, "--dry-run")
    like_control = submitted(service, "--like", control)

    assert service.client.jobs.retrieve(control).labels == {CONTROL_OF: paired, STUDY_REQUEST: "c0ffee"}
    assert like_control.labels == {}
    assert f"this has no control; {paired} has one, as --control edm makes it" in again.out
    assert submitted(service, "--like", paired, "--control", "edm").control_job_id


def test_a_fork_begins_anew_and_says_how_it_would_go_on(service: Service) -> None:
    parent = service.ended()
    service.checkpoint(parent, 160)
    fork = service.cdm("fork", parent, "--json").document["job"]["id"]
    service.end(fork, "failed", reason="out_of_memory")
    service.client.jobs.wait(fork, timeout=30, poll_seconds=0.02)

    planned = service.cdm("submit", "--like", fork, "--dry-run")

    assert f"this begins anew; {fork} went on from a checkpoint, as `cdm fork {parent} --at 160` does" in planned.out
    assert f"`cdm fork {parent} --at 160 --set KEY=VALUE` goes on from there" in service.cdm("show", fork).out


def test_evaluations_that_do_not_fit_the_changes_are_named_with_how_to_leave_them_out(service: Service) -> None:
    before = service.submit("--evaluate", "sampler={sigma_max: 10.0}")

    refused = service.cdm("submit", "--like", before, "--set", "sampler.sigma_min=20.0")

    assert (refused.code, refused.err.count("\n")) == (1, 1)
    assert refused.err.startswith(f"error: the evaluations of {before} do not fit: evaluations.sampler.")
    assert refused.err.endswith("change them with --evaluate, or leave them out with --no-evaluations\n")
    assert submitted(service, "--like", before, "--set", "sampler.sigma_min=20.0", "--no-evaluations")


def test_a_job_of_another_kind_is_made_again(service: Service) -> None:
    trained = service.ended()
    service.checkpoint(trained, 160)
    drawn = service.cdm("sample", trained, "--images", "10", "--json").document

    again = submitted(service, "--like", drawn["id"], "--set", "num_images=20")

    assert again.spec.model_dump(mode="json") == drawn["spec"] | {"num_images": 20}


def test_only_one_document_is_taken_and_jobs_are_offered(service: Service) -> None:
    job = service.submit()

    assert (
        f"the document is that of {job}; leave out smoke, or --like"
        in service.cdm("submit", "smoke", "--like", job).err
    )
    assert service.cdm.offered("cdm submit --like ") == ["latest", job]


def test_a_job_that_has_a_checkpoint_or_did_not_fail_is_not_said_to_begin_anew(service: Service) -> None:
    failed = service.submit()
    service.worker(failed).progress(at=datetime.now(UTC), images_seen=200, checkpoint=160)
    service.end(failed, "failed", reason="data_error")
    service.client.jobs.wait(failed, timeout=30, poll_seconds=0.02)

    assert "begins anew" not in service.cdm("show", failed).out
    assert "begins anew" not in service.cdm("show", service.ended()).out


class OfALaterRelease(BaseHTTPRequestHandler):
    """Answers with a job whose document has a field that is new."""

    def do_GET(self) -> None:
        document = job_view().model_dump(mode="json")
        document["spec"]["optimizer"]["novel"] = 3
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps(document).encode())

    def log_message(self, *_: object) -> None: ...


def test_a_document_with_fields_that_this_release_does_not_know_is_not_submitted_without_them(cdm: Command) -> None:
    with answering(server := HTTPServer(("127.0.0.1", 0), OfALaterRelease)):
        address = f"http://127.0.0.1:{server.server_port}"
        again = cdm("submit", "--like", "job_1", "--set", "seed=5", "--url", address, "--key", "k")

    assert (again.code, again.err.count("\n")) == (1, 1)
    assert "does not know optimizer.novel, which would be lost: install that of the service" in again.err
