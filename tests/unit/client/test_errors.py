"""What a caller of the SDK sees of refusals, of answers that are none, and of what cannot be asked."""

from collections.abc import Iterator
from typing import Any

import httpx2
import pytest

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
    RequestFailed,
    ServiceFailed,
    ServiceUnavailable,
    StateConflict,
    StillInFlight,
)
from service.client.refusals import kind_of
from service.errors import ServiceError
from tests.support.client_answers import connected, good
from tests.support.problems import problem
from workers.contract.presets import PRESETS


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
def test_each_refusal_has_its_own_exception_and_says_what_is_wrong(status: int, expected: type[RequestFailed]) -> None:
    with connected(lambda _: problem(status)) as client, pytest.raises(expected, match="what is wrong") as caught:
        client.jobs.retrieve("job_1")

    assert type(caught.value) is expected
    assert caught.value.request_id == "req_7"


def codes() -> Iterator[type[ServiceError]]:
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


@pytest.mark.parametrize("lacking", [None, ""])
def test_a_key_that_is_not_there_is_said_to_be_missing(lacking: Any) -> None:
    with pytest.raises(ClientError, match="the API key is missing"):
        Client("http://cdm.test", lacking)


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
