"""What the SDK asks for again, when, and what it never repeats."""

import httpx2
import pytest

from service.client import ClientError, Gone, NotFound, RateLimited, ServiceUnreachable, StillRunning
from tests.support.client_answers import Answers, Time, connected, good
from tests.support.problems import problem
from workers.contract.presets import PRESETS


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


def test_waiting_ends_with_the_job_or_with_the_time() -> None:
    states = Answers(good(state="queued"), good(state="running"), good(state="failed"))
    with connected(states) as client:
        assert client.jobs.wait("job_1").state == "failed"

    with connected(lambda _: good()) as client, pytest.raises(StillRunning, match="it goes on"):
        client.jobs.wait("job_1", timeout=2.0)


def test_the_time_to_wait_is_kept_whatever_the_pauses_and_the_silence(time: Time) -> None:
    def slow(request: httpx2.Request) -> httpx2.Response:
        time.seconds += request.extensions["timeout"]["read"]
        raise httpx2.ReadTimeout("slow")

    def silent(request: httpx2.Request) -> httpx2.Response:
        return good() if time.seconds == 0 else slow(request)

    with connected(lambda _: good(), time) as client, pytest.raises(StillRunning):
        client.jobs.wait("job_1", timeout=5.0, poll_seconds=60)
    assert time.seconds == 5

    time.seconds = 0
    with connected(silent, time) as client, pytest.raises(StillRunning, match="still running after 5 s"):
        client.jobs.wait("job_1", timeout=5.0)
    assert time.seconds == 5

    time.seconds = 0
    with connected(slow, time) as client, pytest.raises(ServiceUnreachable):
        client.jobs.wait("job_1", timeout=5.0)
    assert time.seconds == 5


def test_however_short_the_time_is_one_question_is_asked() -> None:
    with connected(lambda _: good(state="succeeded")) as client:
        assert client.jobs.wait("job_1", timeout=0).state == "succeeded"


def test_waiting_bridges_a_service_that_is_started_anew(time: Time) -> None:
    away = [httpx2.ConnectError("refused")] * 6

    with connected(Answers(good(), *away, problem(503), good(state="succeeded")), time) as client:
        assert client.jobs.wait("job_1").state == "succeeded"

    with connected(Answers(good(), *away), time) as client, pytest.raises(ServiceUnreachable):
        client.jobs.wait("job_1")
    assert time.seconds > 60
