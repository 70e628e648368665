"""What the SDK asks for, and what it makes of answers: paths, headers, filters, pages."""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import httpx2
import pytest

from service.client import Client, ClientError, NotFound
from service.client.jobs import ForkOptions, JobChanges, JobOptions
from service.jobs.views import EvaluateEach, ForkCreate, JobCreate, JobPage, JobUpdate
from tests.support.client_answers import Answers, connected, good
from tests.support.job_views import job_view
from tests.support.problems import problem


def test_the_project_is_named_in_every_request() -> None:
    with_project, without = Answers(good()), Answers(good())

    connected(with_project, project="vision").jobs.retrieve("job_1")
    connected(without).jobs.retrieve("job_1")

    assert with_project.requests[0].headers["cdm-project"] == "vision"
    assert "cdm-project" not in without.requests[0].headers


def test_a_change_sends_what_is_given_and_the_tag_it_is_meant_for() -> None:
    answers = Answers(good())

    with connected(answers) as client:
        _, etag = client.jobs.retrieve_with_etag("job_1")
        client.jobs.update("job_1", if_match=etag, labels={"team": "vision"}, max_runtime_seconds=None)

    sent = answers.requests[-1]
    assert (sent.method, sent.headers["if-match"]) == ("PATCH", '"4"')
    assert sent.content == b'{"labels":{"team":"vision"},"max_runtime_seconds":null}'


def test_a_tag_is_asked_for_as_it_is_and_never_made_up() -> None:
    answers = Answers(httpx2.Response(200, content=job_view().model_dump_json()))

    with connected(answers) as client, pytest.raises(ClientError, match="without an ETag"):
        client.jobs.retrieve_with_etag("job_1")

    assert answers.requests[0].headers["accept-encoding"] == "identity"


def test_what_can_be_said_of_a_job_is_what_the_service_takes() -> None:
    assert {*JobOptions.__annotations__} == {*JobCreate.model_fields} - {"spec"}
    assert {*ForkOptions.__annotations__} == {*ForkCreate.model_fields} - {"source", "overrides"}
    assert {*JobChanges.__annotations__} == {*JobUpdate.model_fields}


@pytest.mark.parametrize(
    ("options", "sent"),
    [
        ({}, {}),
        ({"evaluations": None}, {"evaluations": None}),
        ({"evaluations": EvaluateEach(num_images=200)}, {"evaluations": {"num_images": 200}}),
    ],
)
def test_a_fork_says_of_its_evaluations_only_what_it_is_told(options: ForkOptions, sent: dict[str, Any]) -> None:
    answers = Answers(httpx2.Response(201, json={"job": job_view("job_2").model_dump(mode="json"), "changes": []}))

    with connected(answers) as client:
        client.jobs.fork("job_1", **options)

    document = json.loads(answers.requests[-1].content)
    assert document == {"source": {"images_seen": None, "best": None}, "overrides": {}, **sent}


def test_listing_fetches_page_after_page_until_the_limit() -> None:
    pages = {None: ([1, 2], "2"), "2": ([3, 4], "4"), "4": ([5], None)}

    def serve(request: httpx2.Request) -> httpx2.Response:
        numbers, cursor = pages[request.url.params.get("cursor")]
        found = tuple(job_view(f"job_{number}") for number in numbers)
        page = JobPage(data=found, has_more=cursor is not None, next_cursor=cursor)
        return httpx2.Response(200, content=page.model_dump_json())

    with connected(serve) as client:
        assert [found.id for found in client.jobs.list()] == [f"job_{number}" for number in (1, 2, 3, 4, 5)]
        assert len(list(client.jobs.list(limit=2))) == 2


def test_filters_travel_as_the_service_reads_them() -> None:
    answers = Answers(httpx2.Response(200, json={"data": [], "has_more": False, "next_cursor": None}))
    since = datetime(2026, 11, 1, tzinfo=UTC)

    with connected(answers) as client:
        list(client.jobs.list(state="queued", labels={"a": "1", "b": "x y"}, archived=True, created_after=since))

    assert sorted(answers.requests[0].url.params.multi_items()) == [
        ("archived", "true"),
        ("created_after", "2026-11-01T00:00:00+00:00"),
        ("label", "a=1"),
        ("label", "b=x y"),
        ("limit", "50"),
        ("state", "queued"),
    ]


@pytest.mark.parametrize(
    ("ask", "request_line"),
    [
        (lambda client: client.jobs.archive("job_1"), "POST /v1/jobs/job_1/archive"),
        (lambda client: client.jobs.restore("job_1"), "POST /v1/jobs/job_1/restore"),
        (lambda client: client.jobs.replay("job_1"), "POST /v1/jobs/job_1/replay"),
        (lambda client: client.jobs.resume("job_1"), "POST /v1/jobs/job_1/resume"),
        (lambda client: client.jobs.fork("job_1", best="loss/dsm"), "POST /v1/jobs/job_1/fork"),
        (lambda client: client.jobs.plan_fork("job_1"), "POST /v1/jobs/job_1/fork?dry_run=true"),
        (lambda client: client.jobs.metrics("job_1", ["a", "b"], last=9), "GET /v1/jobs/job_1/metrics?keys=a%2Cb&to=9"),
        (lambda client: client.projects.retrieve("a/b"), "GET /v1/projects/a%2Fb"),
        (lambda client: client.api_keys.retrieve("key_1"), "GET /v1/api-keys/key_1"),
        (lambda client: client.webhooks.create("https://a.b"), "POST /v1/webhooks"),
        (lambda client: client.webhooks.retrieve("whk_1"), "GET /v1/webhooks/whk_1"),
        (lambda client: client.webhooks.update("whk_1", enabled=False), "PATCH /v1/webhooks/whk_1"),
        (lambda client: client.webhooks.delete("whk_1"), "DELETE /v1/webhooks/whk_1"),
        (lambda client: client.webhooks.ping("whk_1"), "POST /v1/webhooks/whk_1/ping"),
        (lambda client: client.webhooks.delivery("w", "d"), "GET /v1/webhooks/w/deliveries/d"),
        (lambda client: client.webhooks.replay("w", "d"), "POST /v1/webhooks/w/deliveries/d/replay"),
    ],
)
def test_each_method_asks_for_its_path(ask: Callable[[Client], object], request_line: str) -> None:
    answers = Answers(problem(404))

    with connected(answers) as client, pytest.raises(NotFound):
        ask(client)

    (request,) = answers.requests
    assert f"{request.method} {request.url.raw_path.decode()}" == request_line


def test_an_id_cannot_reach_another_path() -> None:
    def serve(request: httpx2.Request) -> httpx2.Response:
        assert request.url.raw_path == b"/v1/jobs/..%2F..%2Fhealthz"
        return problem(404)

    with connected(serve) as client, pytest.raises(NotFound):
        client.jobs.retrieve("../../healthz")
