"""URLs that users give: they must not lead this process into the network it lives in.

Names are resolved here, every address of a name is looked at, and the connection goes to an address that was looked at:
what a name resolves to a moment later changes nothing.
"""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx2
import structlog

from workers.contract.addresses import INSIDE, PORTS, Address, Network, is_open, looked_up

__all__ = ["INSIDE", "AddressGuard", "AddressRefused", "parsed", "resolve"]

log = structlog.get_logger()

Resolve = Callable[[str, int], Coroutine[Any, Any, Sequence[Address]]]

_LONGEST_SECONDS = 3.0
# A name server that does not answer keeps a thread for half a minute, also when nobody waits for it any more.
_threads = ThreadPoolExecutor(256, "names")
_OF_ONE_PROJECT = 24  # more than it may have webhooks, so that those it has do not wait for each other


class AddressRefused(ValueError):
    """A URL that is not followed; the text says why, for its author."""


async def resolve(host: str, port: int) -> Sequence[Address]:
    """All addresses of a name, as the system knows them; none if it knows no such name."""
    try:
        return await asyncio.get_running_loop().run_in_executor(_threads, looked_up, host, port)
    except (OSError, UnicodeError) as error:
        log.info("address.unknown", host=host, error=str(error))
        return ()


class AddressGuard:
    """Only addresses of the public internet, and of `networks` that the operator has opened."""

    def __init__(self, *, networks: Sequence[Network] = (), resolve: Resolve = resolve) -> None:
        self._networks = tuple(networks)
        self._resolve = resolve
        self._looking: dict[tuple[str, str, int], asyncio.Task[Sequence[Address]]] = {}

    async def check(self, url: str, *, project: str) -> None:
        """Raises AddressRefused if requests to this URL would not be sent now."""
        await self.addresses(parsed(url), project=project)

    async def addresses(self, url: httpx2.URL, *, project: str) -> Sequence[Address]:
        """Where the URL, which is one of this project, leads; never empty.

        Raises:
            AddressRefused: any of its addresses is not open, it has none, or its name server takes its time.
        """
        try:
            async with asyncio.timeout(_LONGEST_SECONDS):
                found = await self._found(url, project)
        except TimeoutError:
            reason = f"no name server has said within {_LONGEST_SECONDS:g} s where {url.host} leads"
            raise AddressRefused(f"{reason}; try again") from None
        if not found or not all(is_open(address, self._networks) for address in found):
            # Users are told no more: whether names of this network exist, and where they lead, is not theirs to ask.
            log.info("address.refused", host=url.host, project=project, addresses=[*map(str, found)])
            raise AddressRefused(f"{url.host} leads to no public address")
        return found

    async def _found(self, url: httpx2.URL, project: str) -> Sequence[Address]:
        """Each name is looked up once at a time, until there is an answer, whoever still waits for that."""
        port = url.port or PORTS[url.scheme]
        key = (project, url.host, port)
        if key not in self._looking:
            if sum(of == project for of, *_ in self._looking) >= _OF_ONE_PROJECT:
                raise AddressRefused(f"{_OF_ONE_PROJECT} other names of the project are being looked up; try again")
            self._looking[key] = asyncio.create_task(self._resolve(url.host, port))
            self._looking[key].add_done_callback(lambda _: self._looking.pop(key))
        return await asyncio.shield(self._looking[key])


def parsed(url: str) -> httpx2.URL:
    """The URL, if it is one that may be given.

    Raises:
        AddressRefused: if it is not http(s), has no host, or carries credentials.
    """
    try:
        found = httpx2.URL(url)
    except (httpx2.InvalidURL, ValueError, TypeError) as error:
        raise AddressRefused(f"not a URL: {error}") from None
    if found.scheme not in PORTS:
        raise AddressRefused("the URL must begin with http:// or https://")
    if not found.host:
        raise AddressRefused("the URL names no host")
    if found.port is not None and not 0 < found.port < 2**16:
        raise AddressRefused("the URL names a port that does not exist")
    if found.userinfo:
        raise AddressRefused("the URL must not contain credentials")
    return found
