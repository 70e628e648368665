"""A service of a later release: what it says more is put up with, and is not lost when it is sent back."""

from collections.abc import Callable
from typing import Any

import httpx2
import pytest

from service.client import Client, ClientError, ServiceFailed
from service.jobs.views import EvaluateEach, Job
from tests.support.client_answers import Answers, connected
from tests.support.job_views import job_view

PROGRESS = {
    "phase": "training",
    "images_seen": 1,
    "total_images": 2,
    "images_per_second": 1.0,
    "eta_seconds": None,
    "losses": {},
    "last_checkpoint_images": None,
    "num_workers": 1,
    "mlflow_run_id": None,
    "updated_at": "2026-11-01T00:00:00Z",
}


def newer(**changes: Any) -> httpx2.Response:
    document = job_view(evaluations=EvaluateEach(), progress=PROGRESS).model_dump(mode="json")
    for place in (document, document["spec"]["optimizer"], document["progress"], document["evaluations"]):
        place["novel"] = 3
    return httpx2.Response(200, json=document | changes)


def received() -> Job:
    with connected(lambda _: newer()) as client:
        return client.jobs.retrieve("job_1")


def test_new_fields_are_put_up_with_wherever_they_are() -> None:
    job = received()

    assert (job.id, job.spec.kind, job.progress and job.progress.images_seen) == ("job_1", "train", 1)
    assert job.model_dump() == job_view(evaluations=EvaluateEach(), progress=PROGRESS).model_dump()


@pytest.mark.parametrize(
    ("send", "lost"),
    [
        (lambda client: client.jobs.create(received().spec), "optimizer.novel"),
        (lambda client: client.jobs.plan(received().spec), "optimizer.novel"),
        (lambda client: client.jobs.fork("job_1", evaluations=received().evaluations), "novel"),
    ],
    ids=["create", "plan", "fork"],
)
def test_a_document_with_new_fields_is_not_sent_back_without_them(send: Callable[[Client], object], lost: str) -> None:
    answers = Answers(newer())

    with connected(answers) as client, pytest.raises(ClientError, match=f"does not know {lost}, which would be lost"):
        send(client)

    assert answers.requests == []


@pytest.mark.parametrize(
    ("changes", "where"),
    [({"state": "suspended"}, "state"), ({"progress": PROGRESS | {"phase": "dreaming"}}, "progress.phase")],
)
def test_a_word_that_is_new_is_named_with_what_it_may_come_from(changes: dict[str, Any], where: str) -> None:
    with (
        connected(lambda _: newer(**changes)) as client,
        pytest.raises(ServiceFailed, match=rf"cannot read \({where}: .*install the release that the service has"),
    ):
        client.jobs.retrieve("job_1")
