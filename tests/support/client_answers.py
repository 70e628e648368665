"""The SDK in front of answers written by hand, in a time that passes only when somebody sleeps."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx2

from service.client import Client, Timing
from tests.support.job_views import job_view

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
