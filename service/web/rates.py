"""How often: requests of a principal, and wrong credentials of an address. Counted by each replica for itself."""

import math
import time
from ipaddress import IPv6Address, ip_address, ip_network
from typing import cast

from limits import RateLimitItemPerMinute
from limits.aio.storage import MemoryStorage
from limits.aio.strategies import SlidingWindowCounterRateLimiter
from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.errors import RateLimited
from service.web.principal import Principal
from service.web.problems import refusal

_WINDOW_SECONDS = 60


class Window:
    """At most so many in any minute, by name."""

    def __init__(self, per_minute: int) -> None:
        # Counts, where the other strategy keeps every request of the minute and tidies up in a thread at each.
        self.limit = RateLimitItemPerMinute(per_minute)
        self._limiter = SlidingWindowCounterRateLimiter(MemoryStorage())

    async def take(self, name: str) -> bool:
        return await self._limiter.hit(self.limit, name)

    async def left(self, name: str) -> tuple[int, int]:
        """How many are left, and in how many seconds there will be more."""
        reset_at, remaining = await self._limiter.get_window_stats(self.limit, name)
        return max(0, remaining), max(1, math.ceil(reset_at - time.time()))


class FailedLogins:
    """Wrong credentials by address. Whoever has an IPv6 address has 2^64 of them, which count as one."""

    def __init__(self, *, per_minute: int) -> None:
        self._window = Window(per_minute)

    async def seconds_to_wait(self, address: str) -> int:
        """0 if the address may try."""
        remaining, reset_seconds = await self._window.left(_bucket(address))
        return 0 if remaining else reset_seconds

    async def count(self, address: str) -> None:
        await self._window.take(_bucket(address))


def _bucket(address: str) -> str:
    try:
        known = ip_address(address)
    except ValueError:
        return address
    return str(ip_network((known, 64), strict=False)) if isinstance(known, IPv6Address) else address


class RateLimitMiddleware:
    """Refuses with 429 what is too much for a principal, and tells how much is left.

    Headers: draft-ietf-httpapi-ratelimit-headers-10.
    """

    def __init__(self, app: ASGIApp, *, per_minute: int) -> None:
        self._app = app
        self._window = Window(per_minute)
        self._policy = f'"principal";q={per_minute};w={_WINDOW_SECONDS}'

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        principal = cast(Principal | None, scope.get("state", {}).get("principal"))
        if scope["type"] != "http" or principal is None:
            await self._app(scope, receive, send)
            return
        is_allowed = await self._window.take(principal.id)
        remaining, reset_seconds = await self._window.left(principal.id)

        async def send_with_limits(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers["RateLimit-Policy"] = self._policy
                headers["RateLimit"] = f'"principal";r={remaining};t={reset_seconds}'
            await send(message)

        refused = RateLimited(f"at most {self._window.limit.amount} a minute", retry_after_seconds=reset_seconds)
        answer: ASGIApp = self._app if is_allowed else refusal(Request(scope), refused)
        await answer(scope, receive, send_with_limits)
