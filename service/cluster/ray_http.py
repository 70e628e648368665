"""One request to Ray's dashboard: bounded in time and size, with a clear word about doors that are shut."""

import asyncio
from dataclasses import dataclass
from typing import Any

import httpx2
from pydantic import SecretStr

from service.cluster.base import ClusterUnreachable

_CONNECT_SECONDS = 3.0
_LIMITS = httpx2.Limits(max_connections=100, max_keepalive_connections=100)  # all jobs are asked for side by side
_MAX_ANSWER_BYTES = 256 << 20  # the table of all jobs comes in one piece


@dataclass(frozen=True, slots=True)
class Answer:
    """`is_cut` if there was more of it than was wanted."""

    status: int
    body: bytes
    is_cut: bool

    @property
    def text(self) -> str:
        return self.body.decode(errors="replace")

    @property
    def is_success(self) -> bool:
        return 200 <= self.status < 300

    @property
    def gist(self) -> str:
        """The last line that says something: Ray answers with tracebacks."""
        lines = [line.strip() for line in self.text.splitlines() if line.strip(" .")]
        return f"HTTP {self.status}: {lines[-1][:500] if lines else 'no text'}"

    def successful(self) -> "Answer":
        if not self.is_success:
            raise ClusterUnreachable(self.gist)
        return self


class RayHttp:
    """Connections to one dashboard. Every request may raise ClusterUnreachable, and nothing else."""

    def __init__(self, url: str, *, token: SecretStr | None, timeout_seconds: float) -> None:
        headers = {"Authorization": f"Bearer {token.get_secret_value()}"} if token else {}
        timeout = httpx2.Timeout(timeout_seconds, connect=min(timeout_seconds, _CONNECT_SECONDS))
        self._client = httpx2.AsyncClient(base_url=url, headers=headers, timeout=timeout, limits=_LIMITS)
        self._timeout_seconds = timeout_seconds

    async def request(self, method: str, path: str, *, json: Any = None, max_bytes: int = _MAX_ANSWER_BYTES) -> Answer:
        try:
            async with asyncio.timeout(self._timeout_seconds), self._client.stream(method, path, json=json) as response:
                body = await _first_bytes(response, max_bytes)
        except TimeoutError:  # httpx2 limits only the time between two bytes
            raise ClusterUnreachable(f"no answer within {self._timeout_seconds:g} s") from None
        except httpx2.RequestError as error:
            raise ClusterUnreachable(f"{type(error).__name__}: {error}".rstrip(": ")) from None
        _check_door(response)
        return Answer(response.status_code, body[:max_bytes], is_cut=len(body) > max_bytes)

    async def close(self) -> None:
        await self._client.aclose()


async def _first_bytes(response: httpx2.Response, count: int) -> bytes:
    """As many, and some more if there are."""
    body = bytearray()
    async for chunk in response.aiter_bytes():
        body += chunk
        if len(body) > count:
            break
    return bytes(body)


def _check_door(response: httpx2.Response) -> None:
    """Whether this is Ray's dashboard, and open to us."""
    if response.is_redirect:
        place = response.headers.get("location")
        raise ClusterUnreachable(f"redirected to {place}: set CDM_RAY_URL to the address of Ray's dashboard itself")
    if response.status_code in {401, 403}:
        raise ClusterUnreachable(
            f"Ray refuses the token of this service (HTTP {response.status_code}): set CDM_RAY_TOKEN to the head's"
        )
