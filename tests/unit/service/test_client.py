"""The SDK against answers written by hand: what a caller sees of errors, pages and repeats."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx2
import pytest

import service.web.errors
from service.client import (
    AnswerLost,
    AuthenticationFailed,
    Client,
    ClientError,
    Conflict,
    Gone,
    InvalidRequest,
    NotFound,
    PermissionDenied,
    PreconditionFailed,
    RateLimited,
    ServiceFailed,
    ServiceUnavailable,
    ServiceUnreachable,
    StateConflict,
    StillInFlight,
    StillRunning,
    Timing,
)
from service.client.refusals import kind_of
from service.errors import ServiceError
from service.jobs.views import JobPage
from tests.support.job_views import job_view
from tests.support.problems import problem
from workers.contract.presets import PRESETS

Handler = Callable[[httpx2.Request], httpx2.Response]


@dataclass
class Time:
    """Passes only when someone sleeps."""

    seconds: float = 0.0
    pauses: list[float] = field(default_factory=list)

    def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.seconds += seconds

    @property
    def timing(self) -> Timing:
        return Timing(
            monotonic=lambda: self.seconds,
            sleep=self.sleep,
            now=lambda: datetime(2026, 11, 1, tzinfo=UTC) + timedelta(seconds=self.seconds),
            jitter=lambda: 0.5,
        )


@pytest.fixture
def time() -> Time:
    return Time()


def connected(handler: Handler, time: Time | None = None, **options: Any) -> Client:
    timing = (time or Time()).timing
    return Client("http://cdm.test", "secret", transport=httpx2.MockTransport(handler), timing=timing, **options)


def good(job_id: str = "job_1", **changes: Any) -> httpx2.Response:
    return httpx2.Response(200, content=job_view(job_id, **changes).model_dump_json(), headers={"ETag": '"4"'})


class Answers:
    """Gives one answer after the other, the last one for ever, and keeps the requests."""

    def __init__(self, *answers: httpx2.Response | Exception) -> None:
        self.answers = list(answers)
        self.requests: list[httpx2.Request] = []

    def __call__(self, request: httpx2.Request) -> httpx2.Response:
        self.requests.append(request)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer

    @property
    def keys(self) -> list[str]:
        return [request.headers["idempotency-key"] for request in self.requests]


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (400, InvalidRequest),
        (401, AuthenticationFailed),
        (403, PermissionDenied),
        (404, NotFound),
        (409, Conflict),
        (410, Gone),
        (412, PreconditionFailed),
        (413, InvalidRequest),
        (422, InvalidRequest),
        (429, RateLimited),
        (500, ServiceFailed),
        (503, ServiceUnavailable),
    ],
)
def test_each_refusal_has_its_own_exception_and_says_what_is_wrong(status: int, expected: type[Exception]) -> None:
    with connected(lambda _: problem(status)) as client, pytest.raises(expected, match="what is wrong") as caught:
        client.jobs.retrieve("job_1")

    assert type(caught.value) is expected
    assert caught.value.request_id == "req_7"  # type: ignore[attr-defined]


def test_a_file_is_written_as_it_comes_and_takes_its_place_when_it_is_whole(tmp_path: Path) -> None:
    target, heard, piece = tmp_path / "images.zip", list[int](), bytes(1 << 20)
    target.write_bytes(b"of yesterday")

    def content() -> Iterator[bytes]:
        for number in range(4):
            assert len(heard) == number, "nothing is gathered in memory"
            assert target.read_bytes() == b"of yesterday"
            yield piece

    with connected(lambda _: httpx2.Response(200, content=content())) as client:
        client.jobs.save_file("job_1", "images.zip", target, on_bytes=lambda done, _: heard.append(done))

    assert target.read_bytes() == 4 * piece
    assert list(tmp_path.iterdir()) == [target]


def test_a_file_that_never_comes_whole_leaves_what_was_there(tmp_path: Path, time: Time) -> None:
    target, tries = tmp_path / "images.zip", list[int]()
    target.write_bytes(b"of yesterday")

    def content() -> Iterator[bytes]:
        tries.append(1)
        yield bytes(1 << 20)
        raise httpx2.ReadError("cut off")

    with (
        connected(lambda _: httpx2.Response(200, content=content()), time) as client,
        pytest.raises(ServiceUnreachable),
    ):
        client.jobs.save_file("job_1", "images.zip", target)

    assert (len(tries), len(time.pauses)) == (4, 3)
    assert target.read_bytes() == b"of yesterday"
    assert list(tmp_path.iterdir()) == [target]


def test_a_file_that_is_not_there_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    with connected(lambda _: problem(404)) as client, pytest.raises(NotFound, match="what is wrong"):
        client.jobs.save_file("job_1", "images.zip", tmp_path / "images.zip")

    assert list(tmp_path.iterdir()) == []


def codes() -> Iterator[type[ServiceError]]:
    assert service.web.errors
    left = [ServiceError]
    while left:
        kinds = left.pop().__subclasses__()
        left += kinds
        yield from (kind for kind in kinds if "code" in vars(kind))


def test_every_code_of_the_service_is_a_kind_of_what_its_status_alone_would_be() -> None:
    for error in codes():
        assert issubclass(kind_of(error.status, error.code), kind_of(error.status, "a code of the future")), error

    assert kind_of(409, "state_conflict") is StateConflict
    assert kind_of(409, "idempotency_in_flight") is StillInFlight
    assert kind_of(409, "idempotency_answer_not_kept") is AnswerLost


def test_a_conflict_says_in_which_state_it_is_and_what_is_possible() -> None:
    refused = problem(409, code="state_conflict", current_state="succeeded", allowed=["fork", "archive"])

    with connected(lambda _: refused) as client, pytest.raises(StateConflict) as caught:
        client.jobs.pause("job_1")

    assert (caught.value.current_state, caught.value.allowed) == ("succeeded", ("fork", "archive"))


def test_wrong_fields_are_listed_one_by_one() -> None:
    errors = [{"pointer": "/spec/seed", "code": "int_type", "message": "should be an integer"}]

    with connected(lambda _: problem(422, errors=errors)) as client, pytest.raises(InvalidRequest) as caught:
        client.jobs.create({"seed": "x"})

    assert str(caught.value) == "spec.seed: should be an integer"
    assert [wrong.pointer for wrong in caught.value.problems] == ["/spec/seed"]


@pytest.mark.parametrize(
    "answer",
    [
        httpx2.Response(404, text="<html>"),
        httpx2.Response(200, text="<html>"),
        httpx2.Response(404, json={"code": 404, "message": "no such page"}),
        httpx2.Response(422, json={"code": "invalid", "errors": [{"field": "name"}]}),
        httpx2.Response(400, json={"code": "invalid", "errors": "name"}),
        httpx2.Response(400, json=["code"]),
    ],
)
def test_an_answer_from_some_other_server_is_recognised_as_such(answer: httpx2.Response) -> None:
    with connected(lambda _: answer) as client, pytest.raises(ServiceFailed, match="check the address"):
        client.jobs.retrieve("job_1")


@pytest.mark.parametrize("address", ["http://host:port", "http://ho\x00st", "http://host..name", "http://\ud800"])
def test_an_address_that_is_none_is_said_to_be_so(address: str) -> None:
    with pytest.raises(ClientError, match="mend the address") as caught, Client(address, "secret") as client:
        client.jobs.retrieve("job_1")

    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("wrong", ["sécret", "\u2018secret\u2019", "secret\n", "\ud800"])
def test_a_key_or_a_project_that_no_header_can_carry_is_refused_and_not_shown(wrong: str) -> None:
    with pytest.raises(ClientError, match="the API key has characters") as caught:
        Client("http://cdm.test", wrong)
    assert wrong not in str(caught.value)

    with pytest.raises(ClientError, match="the project has characters"):
        Client("http://cdm.test", "secret", project=wrong)


def test_what_cannot_be_sent_is_an_error_of_one_line() -> None:
    with connected(lambda _: good()) as client:
        for ask in (
            lambda: client.jobs.retrieve("x" * 70_000),
            lambda: client.jobs.update("job_1", name="\ud800"),
            lambda: client.jobs.update("job_1", name="new", if_match="ü"),
            lambda: client.jobs.create(PRESETS["smoke"], idempotency_key="ü"),
        ):
            with pytest.raises(ClientError, match="or what is asked for"):
                ask()


def test_the_key_is_not_shown() -> None:
    with connected(lambda _: good(), project="vision") as client:
        assert repr(client) == "Client('http://cdm.test', api_key='***', project='vision')"
        assert "secret" not in repr(vars(client)) + repr(vars(client._connection))


def test_the_project_is_named_in_every_request() -> None:
    with_project, without = Answers(good()), Answers(good())

    connected(with_project, project="vision").jobs.retrieve("job_1")
    connected(without).jobs.retrieve("job_1")

    assert with_project.requests[0].headers["cdm-project"] == "vision"
    assert "cdm-project" not in without.requests[0].headers


@pytest.mark.parametrize(
    "passing",
    [
        httpx2.ConnectError("connection refused"),
        httpx2.ReadTimeout("slow"),
        httpx2.RemoteProtocolError("the answer broke off"),
        problem(408),
        problem(429),
        problem(503),
        httpx2.Response(502, text="<html>of a proxy"),
        httpx2.Response(504),
        problem(409, code="idempotency_in_flight"),
    ],
)
def test_what_may_pass_is_tried_again_under_the_same_idempotency_key(
    passing: httpx2.Response | Exception, time: Time
) -> None:
    answers = Answers(passing, passing, good())

    with connected(answers, time) as client:
        job = client.jobs.create(PRESETS["smoke"])

    assert job.id == "job_1"
    assert len(set(answers.keys)) == 1
    assert len(answers.keys[0]) == 32
    assert time.pauses == [0.1875, 0.375]  # 0.25 and 0.5, of which half is left to chance


def test_every_post_has_an_idempotency_key_of_its_own_or_that_of_the_caller() -> None:
    answers = Answers(good())

    with connected(answers) as client:
        client.jobs.create(PRESETS["smoke"])
        client.jobs.create(PRESETS["smoke"])
        client.jobs.cancel("job_1")
        client.jobs.create(PRESETS["smoke"], idempotency_key="of-the-caller")

    assert len(set(answers.keys)) == 4
    assert answers.keys[-1] == "of-the-caller"


@pytest.mark.parametrize("final", [problem(400), problem(404), problem(409), problem(422), problem(500)])
def test_what_will_not_pass_is_said_at_once(final: httpx2.Response, time: Time) -> None:
    answers = Answers(final)

    with connected(answers, time) as client, pytest.raises(ClientError):
        client.jobs.create(PRESETS["smoke"])

    assert (len(answers.requests), time.pauses) == (1, [])


def test_a_service_that_stays_away_is_given_up_after_the_retries(time: Time) -> None:
    answers = Answers(httpx2.ConnectError("connection refused"))

    with (
        connected(answers, time, max_retries=2) as client,
        pytest.raises(ServiceUnreachable, match="is the service started"),
    ):
        client.jobs.retrieve("job_1")

    assert len(answers.requests) == 3


@pytest.mark.parametrize("header", ["7", "Sun, 01 Nov 2026 00:00:07 GMT"])
def test_a_pause_that_the_service_asks_for_is_kept(header: str, time: Time) -> None:
    answers = Answers(problem(429, headers={"Retry-After": header}), good())

    with connected(answers, time) as client:
        client.jobs.retrieve("job_1")

    assert time.pauses == [7.125]  # never less


def test_a_pause_that_is_longer_than_the_patience_is_the_callers_to_make(time: Time) -> None:
    answers = Answers(problem(429, headers={"Retry-After": "3600"}))

    with connected(answers, time, timeout_seconds=10) as client, pytest.raises(RateLimited) as caught:
        client.jobs.retrieve("job_1")

    assert (caught.value.retry_after, time.pauses) == (3600, [])


def test_all_tries_together_take_no_longer_than_the_patience(time: Time) -> None:
    def slow(request: httpx2.Request) -> httpx2.Response:
        timeouts.append(request.extensions["timeout"]["read"])
        time.seconds += timeouts[-1]
        raise httpx2.ReadTimeout("slow")

    timeouts: list[float] = []
    with connected(slow, time, timeout_seconds=50, max_retries=9) as client, pytest.raises(ServiceUnreachable):
        client.jobs.retrieve("job_1")

    assert timeouts == [30, 50 - 30 - time.pauses[0]]


def test_a_change_is_repeated_freely_only_if_nothing_hangs_on_its_being_the_first() -> None:
    def tries(lost: httpx2.Response | Exception, if_match: str | None) -> int:
        answers = Answers(lost)
        with connected(answers) as client, pytest.raises(ClientError):
            client.jobs.update("job_1", if_match=if_match, name="new")
        return len(answers.requests)

    assert tries(httpx2.ReadTimeout("slow"), None) == 4
    assert tries(httpx2.ReadTimeout("slow"), '"4"') == 1
    assert tries(httpx2.Response(502), '"4"') == 1
    assert tries(httpx2.ConnectError("refused"), '"4"') == 4
    assert tries(problem(429), '"4"') == 4


def test_a_change_sends_what_is_given_and_the_tag_it_is_meant_for() -> None:
    answers = Answers(good())

    with connected(answers) as client:
        _, etag = client.jobs.retrieve_with_etag("job_1")
        client.jobs.update("job_1", if_match=etag, labels={"team": "vision"}, max_runtime_seconds=None)

    sent = answers.requests[-1]
    assert (sent.method, sent.headers["if-match"]) == ("PATCH", '"4"')
    assert sent.content == b'{"labels":{"team":"vision"},"max_runtime_seconds":null}'


def test_a_deletion_that_was_carried_out_and_whose_answer_got_lost_succeeds() -> None:
    lost = Answers(httpx2.ReadTimeout("slow"), problem(410, code="job_gone"))
    never = Answers(problem(410, code="job_gone"))
    unasked = Answers(httpx2.ConnectError("refused"), problem(404, code="job_not_found"))

    connected(lost).jobs.delete("job_1", purge=["logs", "samples"])

    assert str(lost.requests[0].url) == "http://cdm.test/v1/jobs/job_1?purge=logs&purge=samples"
    with pytest.raises(Gone):
        connected(never).jobs.delete("job_1")
    with pytest.raises(NotFound):
        connected(unasked).jobs.delete("job_1")


def test_not_being_ready_is_an_answer_and_no_reason_to_ask_again() -> None:
    document = {"ready": False, "dependencies": {"ray": {"ready": False, "detail": "refused"}}}
    answers = Answers(httpx2.Response(503, json=document))

    with connected(answers) as client:
        assert not client.readiness().ready

    assert len(answers.requests) == 1


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


def test_waiting_ends_with_the_job_or_with_the_time() -> None:
    states = Answers(good(state="queued"), good(state="running"), good(state="failed"))
    with connected(states) as client:
        assert client.jobs.wait("job_1").state == "failed"

    with connected(lambda _: good()) as client, pytest.raises(StillRunning, match="it goes on"):
        client.jobs.wait("job_1", timeout=2.0)


def test_waiting_bridges_a_service_that_is_started_anew(time: Time) -> None:
    away = [httpx2.ConnectError("refused")] * 6

    with connected(Answers(good(), *away, problem(503), good(state="succeeded")), time) as client:
        assert client.jobs.wait("job_1").state == "succeeded"

    with connected(Answers(good(), *away), time) as client, pytest.raises(ServiceUnreachable):
        client.jobs.wait("job_1")
    assert time.seconds > 60


def test_an_id_cannot_reach_another_path() -> None:
    def serve(request: httpx2.Request) -> httpx2.Response:
        assert request.url.raw_path == b"/v1/jobs/..%2F..%2Fhealthz"
        return problem(404)

    with connected(serve) as client, pytest.raises(NotFound):
        client.jobs.retrieve("../../healthz")


def test_a_newer_service_may_say_more_than_this_client_knows() -> None:
    document = job_view().model_dump(mode="json") | {"cost": 3}

    with connected(lambda _: httpx2.Response(200, json=document)) as client:
        assert client.jobs.retrieve("job_1").id == "job_1"
