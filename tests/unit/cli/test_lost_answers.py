"""Commands whose answer got lost: what may have been carried out is not to be repeated unseen."""

import httpx2
import pytest

from service.cli.errors import CommandFailed
from service.cli.submission import made_once
from service.client import ServiceUnreachable
from tests.support.client_answers import Time, connected
from workers.contract.presets import PRESETS


@pytest.mark.parametrize("error", [httpx2.ReadTimeout("slow"), httpx2.ReadError("cut off")], ids=["slow", "cut"])
def test_a_submission_that_may_be_there_is_said_to(error: Exception) -> None:
    def serve(request: httpx2.Request) -> httpx2.Response:
        raise error

    lost = pytest.raises(CommandFailed, match="may be there already: `cdm jobs --mine`")
    with connected(serve, Time()) as client, lost, made_once():
        client.jobs.create(PRESETS["smoke"])


def test_the_answer_that_got_lost_may_be_an_earlier_one() -> None:
    errors: list[Exception] = [httpx2.ReadError("the service was killed")]

    def serve(request: httpx2.Request) -> httpx2.Response:
        raise errors.pop() if errors else httpx2.ConnectError("it is not back yet")

    lost = pytest.raises(CommandFailed, match="may be there already: `cdm jobs --mine`")
    with connected(serve, Time()) as client, lost, made_once():
        client.jobs.create(PRESETS["smoke"])


def test_one_that_never_left_is_not() -> None:
    def serve(request: httpx2.Request) -> httpx2.Response:
        raise httpx2.ConnectError("no route")

    with connected(serve, Time()) as client, pytest.raises(ServiceUnreachable), made_once():
        client.jobs.create(PRESETS["smoke"])
