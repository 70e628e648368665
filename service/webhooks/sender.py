"""One try to hand over a message."""

import asyncio
from dataclasses import dataclass

import httpx2

from service.web.addresses import AddressRefused
from service.web.outgoing import PROJECT
from workers.contract.addresses import is_address

TIMEOUT_SECONDS = 10.0
_LONGEST_ERROR = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What came of it. `hopeless` = trying again would be pointless."""

    status: int | None = None
    error: str | None = None
    hopeless: bool = False


async def post(
    client: httpx2.AsyncClient,
    url: str,
    *,
    project: str,
    headers: dict[str, str],
    body: bytes,
    timeout_seconds: float = TIMEOUT_SECONDS,
) -> Answer:
    """Post to a URL of a project; the client guards where that leads. The body of the answer is not read."""
    whose = {PROJECT: project}
    try:
        async with (
            asyncio.timeout(timeout_seconds),
            client.stream("POST", url, headers=headers, content=body, extensions=whose) as got,
        ):
            if got.is_success:
                return Answer(status=got.status_code)
            return Answer(status=got.status_code, error=f"answered {got.status_code}")
    except (TimeoutError, httpx2.TimeoutException):
        return Answer(error=f"no answer within {timeout_seconds:g} s")
    except httpx2.ConnectError as error:
        refused = isinstance(error.__cause__, AddressRefused)
        return _failed(error, hopeless=refused and is_address(httpx2.URL(url).host))
    except (httpx2.HTTPError, httpx2.InvalidURL) as error:
        return _failed(error)


def _failed(error: Exception, *, hopeless: bool = False) -> Answer:
    text = f"{error}" or type(error).__name__
    return Answer(error=text[:_LONGEST_ERROR], hopeless=hopeless)
