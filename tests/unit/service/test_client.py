"""The SDK against answers written by hand: what a caller sees of errors, pages and repeats."""

from collections.abc import Callable

import httpx2
import pytest

from service.client import (
    AuthenticationFailed,
    Client,
    Conflict,
    InvalidRequest,
    NotFound,
    ServiceFailed,
    ServiceUnreachable,
    StillRunning,
)
from service.jobs.views import Job, JobPage
from workers.contract.presets import PRESETS

Handler = Callable[[httpx2.Request], httpx2.Response]


def connected(handler: Handler) -> Client:
    return Client("http://cdm.test", "secret", transport=httpx2.MockTransport(handler))


def problem(status: int, **fields: object) -> httpx2.Response:
    return httpx2.Response(status, json={"status": status, "code": "some_code", "detail": "what is wrong", **fields})


def job(number: int, *, state: str = "running") -> Job:
    return Job.model_validate(
        {
            "id": f"job_{number}",
            "name": None,
            "state": state,
            "reason": None,
            "message": None,
            "spec": PRESETS["smoke"],
            "spec_sha256": "0" * 64,
            "created_at": "2026-11-01T00:00:00Z",
            "started_at": None,
            "ended_at": None,
            "attempt": 0,
            "progress": None,
            "mlflow_url": None,
            "conditions": (),
            "links": {},
        }
    )


@pytest.mark.parametrize(
    ("status", "expected"),
    [(401, AuthenticationFailed), (404, NotFound), (409, Conflict), (422, InvalidRequest), (503, ServiceFailed)],
)
def test_each_refusal_has_its_own_exception_and_says_what_is_wrong(status: int, expected: type[Exception]) -> None:
    with connected(lambda _: problem(status)) as client, pytest.raises(expected, match="what is wrong"):
        client.jobs.retrieve("job_1")


def test_wrong_fields_are_listed_one_by_one() -> None:
    errors = [{"pointer": "/spec/seed", "code": "int_type", "message": "should be an integer"}]

    with connected(lambda _: problem(422, errors=errors)) as client, pytest.raises(InvalidRequest) as caught:
        client.jobs.create({"seed": "x"})

    assert str(caught.value) == "spec.seed: should be an integer"
    assert [wrong.pointer for wrong in caught.value.problems] == ["/spec/seed"]


def test_an_answer_from_some_other_server_is_recognised_as_such() -> None:
    with (
        connected(lambda _: httpx2.Response(404, text="<html>")) as client,
        pytest.raises(ServiceFailed, match="check"),
    ):
        client.jobs.retrieve("job_1")


def test_reading_is_repeated_when_the_connection_fails_and_submitting_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.client.connection._PAUSES_SECONDS", (0.0, 0.0))
    seen = []

    def refuse(request: httpx2.Request) -> httpx2.Response:
        seen.append(request.method)
        raise httpx2.ConnectError("connection refused")

    with connected(refuse) as client:
        with pytest.raises(ServiceUnreachable, match="is the service started"):
            client.jobs.retrieve("job_1")
        with pytest.raises(ServiceUnreachable):
            client.jobs.create(PRESETS["smoke"])

    assert seen == ["GET", "GET", "GET", "POST"]


def test_listing_fetches_page_after_page_until_the_limit() -> None:
    pages = {None: ([1, 2], "2"), "2": ([3, 4], "4"), "4": ([5], None)}

    def serve(request: httpx2.Request) -> httpx2.Response:
        numbers, cursor = pages[request.url.params.get("cursor")]
        page = JobPage(data=tuple(map(job, numbers)), has_more=cursor is not None, next_cursor=cursor)
        return httpx2.Response(200, content=page.model_dump_json())

    with connected(serve) as client:
        assert [found.id for found in client.jobs.list()] == [f"job_{number}" for number in (1, 2, 3, 4, 5)]
        assert len(list(client.jobs.list(limit=2))) == 2


def test_waiting_ends_with_the_job_or_with_the_time() -> None:
    states = iter(["queued", "running", "failed"])
    with connected(lambda _: httpx2.Response(200, content=job(1, state=next(states)).model_dump_json())) as client:
        assert client.jobs.wait("job_1", poll_seconds=0).state == "failed"

    running = connected(lambda _: httpx2.Response(200, content=job(1).model_dump_json()))
    with running as client, pytest.raises(StillRunning, match="it goes on"):
        client.jobs.wait("job_1", timeout=0, poll_seconds=0)


def test_an_id_cannot_reach_another_path() -> None:
    def serve(request: httpx2.Request) -> httpx2.Response:
        assert request.url.raw_path == b"/v1/jobs/..%2F..%2Fhealthz"
        return problem(404)

    with connected(serve) as client, pytest.raises(NotFound):
        client.jobs.retrieve("../../healthz")


def test_a_newer_service_may_say_more_than_this_client_knows() -> None:
    document = job(1).model_dump(mode="json") | {"cost": 3}

    with connected(lambda _: httpx2.Response(200, json=document)) as client:
        assert client.jobs.retrieve("job_1").id == "job_1"
