"""Streams that are cut, by a service written by hand: what a reader sees of it."""

import json
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest

from service.client import ClientError, NotFound, RequestFailed, ServiceUnreachable
from service.jobs.result_views import Log
from tests.support.client_answers import Answers, Time, connected
from tests.support.problems import problem


def event(sequence: int) -> dict[str, Any]:
    document = {"sequence": sequence, "type": "state_changed", "state": "running", "attempt": 1, "reason": None}
    return {**document, "message": None, "actor": None, "created_at": "2026-11-01T00:00:00Z"}


def message(name: str, document: Any, number: int | str) -> bytes:
    return f"id: {number}\nevent: {name}\ndata: {json.dumps(document)}\n\n".encode()


class Body(httpx2.SyncByteStream):
    """Pieces as they come over the wire; `cut` breaks off after them."""

    def __init__(self, *pieces: bytes, cut: bool = False) -> None:
        self._pieces = pieces
        self._cut = cut

    def __iter__(self) -> Iterator[bytes]:
        yield b"retry: 3000\n\n"
        yield from self._pieces
        if self._cut:
            raise httpx2.ReadError("cut")


def streamed(*pieces: bytes, cut: bool = False) -> httpx2.Response:
    return httpx2.Response(200, stream=Body(*pieces, cut=cut), headers={"content-type": "text/event-stream"})


class Service:
    """Tells the events behind `Last-Event-ID`, one in each answer, which it ends in one of several ways."""

    def __init__(self, total: int) -> None:
        self.total = total
        self.asked: list[str] = []

    def __call__(self, request: httpx2.Request) -> httpx2.Response:
        assert request.url.path == "/v1/jobs/job_1/events/stream"
        assert request.headers["accept"] == "text/event-stream"
        self.asked.append(request.headers["last-event-id"])
        last = int(self.asked[-1])
        if last == self.total:
            return streamed(message("end", {"state": "succeeded"}, last))
        told, half = message("state_changed", event(last + 1), last + 1), message("x", event(last + 2), last + 2)[:-1]
        match len(self.asked) % 4:
            case 0:
                return streamed(told, half, cut=True)
            case 1:
                return streamed(told, b": ping\n\n")
            case 2:
                raise httpx2.ConnectError("refused")
            case _:
                return streamed(message("state_changed", event(last), last), told, cut=True)


def test_a_reader_that_is_cut_after_every_event_sees_each_once_and_in_order() -> None:
    service = Service(total=20)

    with connected(service) as client:
        seen = [one.sequence for one in client.jobs.stream_events("job_1")]
        rest = [one.sequence for one in client.jobs.stream_events("job_1", after=18)]

    assert seen == list(range(1, 21))
    assert rest == [19, 20]
    assert service.asked[0] == "0"


def test_after_a_reset_the_reader_goes_on_behind_what_is_lost() -> None:
    answers = iter([streamed(message("reset", {}, 7), cut=True), streamed(message("state_changed", event(8), 8), b"")])
    asked = []

    def serve(request: httpx2.Request) -> httpx2.Response:
        asked.append(request.headers["last-event-id"])
        return next(answers, streamed(message("end", {}, 8)))

    with connected(serve) as client:
        assert [one.sequence for one in client.jobs.stream_events("job_1", after=3)] == [8]

    assert asked == ["3", "7", "8"]


def test_logs_come_piece_by_piece_and_go_on_at_their_place() -> None:
    piece = {"attempt": 1, "source": "rank-0000", "text": "one", "next_offset": 3, "complete": False}
    more = {**piece, "text": "two", "next_offset": 6}
    bodies = iter([[message("log", piece, "1:rank-0000:3")], [message("log", more, "1:rank-0000:6")]])
    asked = []

    def serve(request: httpx2.Request) -> httpx2.Response:
        asked.append((request.url.params["source"], request.headers.get("last-event-id")))
        return streamed(*next(bodies, [message("end", {}, "1:rank-0000:6")]))

    with connected(serve) as client:
        assert "".join(one.text for one in client.jobs.stream_logs("job_1", source="rank-0000")) == "onetwo"

    assert asked == [("rank-0000", None), ("rank-0000", "1:rank-0000:3"), ("rank-0000", "1:rank-0000:6")]


def test_a_log_is_streamed_from_behind_a_piece_that_is_known() -> None:
    known = Log(attempt=2, source="rank-0000", text="two\n", next_offset=8, complete=False)
    asked = []

    def serve(request: httpx2.Request) -> httpx2.Response:
        asked.append(request.headers.get("last-event-id"))
        return streamed(message("end", {}, "2:rank-0000:8"))

    with connected(serve) as client:
        assert list(client.jobs.stream_logs("job_1", source="rank-0000", behind=known)) == []

    assert asked == ["2:rank-0000:8"]


def test_a_service_that_stays_away_is_given_up_after_a_minute(time: Time) -> None:
    def refuse(_: httpx2.Request) -> httpx2.Response:
        raise httpx2.ConnectError("refused")

    with connected(refuse, time) as client, pytest.raises(ServiceUnreachable):
        list(client.jobs.stream_events("job_1"))

    assert 60 < time.seconds < 70


@pytest.mark.parametrize(("asked_seconds", "tries"), [(0, 21), (3600, 1)])
def test_a_pause_that_somebody_in_between_asks_for_neither_floods_nor_stalls(
    asked_seconds: int, tries: int, time: Time
) -> None:
    away = Answers(problem(503, code="maintenance", headers={"retry-after": str(asked_seconds)}))

    with connected(away, time) as client, pytest.raises(RequestFailed):
        list(client.jobs.stream_events("job_1"))

    assert len(away.requests) == tries
    assert (60 < time.seconds < 70) == (asked_seconds == 0)


def test_a_stream_in_which_nothing_happens_for_hours_is_not_given_up(time: Time) -> None:
    left = iter(range(20))

    def serve(_: httpx2.Request) -> httpx2.Response:
        time.seconds += 900
        return streamed(b": ping\n\n") if next(left, None) is not None else streamed(message("end", {}, 1))

    with connected(serve, time) as client:
        assert list(client.jobs.stream_events("job_1")) == []


def test_a_refusal_ends_the_stream_unless_it_may_pass(time: Time) -> None:
    busy = problem(503, code="too_many_streams", headers={"retry-after": "5"})
    answers = iter([busy, problem(404, code="job_not_found", detail="there is no job job_1")])

    with connected(lambda _: next(answers), time) as client, pytest.raises(NotFound, match="no job job_1"):
        list(client.jobs.stream_events("job_1"))

    assert time.seconds == 5


def test_a_message_of_another_release_says_which_field_is_unknown() -> None:
    told = streamed(message("state_changed", {**event(1), "cost": 3}, 1), message("x", {**event(2), "state": "new"}, 2))

    with connected(lambda _: told) as client:
        stream = client.jobs.stream_events("job_1")
        assert next(stream).sequence == 1
        with pytest.raises(ClientError, match=r"cannot read \(state: .*install the release that the service has"):
            next(stream)
