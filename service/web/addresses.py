"""URLs that users give: they must not lead this process into the network it lives in.

Names are resolved here, every address of a name is looked at, and the connection goes to an address that was looked at:
what a name resolves to a moment later changes nothing.
"""

import asyncio
import socket
from collections.abc import Awaitable, Callable, Sequence
from ipaddress import ip_address

import httpx2

from workers.contract.addresses import INSIDE, Address, Network, is_open

__all__ = ["INSIDE", "AddressGuard", "AddressRefused", "parsed", "resolve"]

Resolve = Callable[[str, int], Awaitable[Sequence[Address]]]

_PORTS = {"http": 80, "https": 443}


class AddressRefused(ValueError):
    """A URL that is not followed; the text says why, for its author."""


async def resolve(host: str, port: int) -> Sequence[Address]:
    """All addresses of a name, as the system knows them."""
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise AddressRefused(f"{host} has no address: {error}") from None
    return tuple(dict.fromkeys(ip_address(str(sockaddr[0]).partition("%")[0]) for *_, sockaddr in found))


class AddressGuard:
    """Only addresses of the public internet, and of `networks` that the operator has opened."""

    def __init__(self, *, networks: Sequence[Network] = (), resolve: Resolve = resolve) -> None:
        self._networks = tuple(networks)
        self._resolve = resolve

    async def check(self, url: str) -> None:
        """Raises AddressRefused if requests to this URL would not be sent now."""
        await self.addresses(parsed(url))

    async def addresses(self, url: httpx2.URL) -> Sequence[Address]:
        """Where the URL leads; never empty.

        Raises:
            AddressRefused: if any of its addresses is not open, or it has none.
        """
        found = await self._resolve(url.host, url.port or _PORTS[url.scheme])
        if not found:
            raise AddressRefused(f"{url.host} has no address")
        for address in found:
            if not is_open(address, self._networks):
                raise AddressRefused(f"{url.host} is {address}, which is not an address of the public internet")
        return found


def parsed(url: str) -> httpx2.URL:
    """The URL, if it is one that may be given.

    Raises:
        AddressRefused: if it is not http(s), has no host, or carries credentials.
    """
    try:
        found = httpx2.URL(url)
    except (httpx2.InvalidURL, ValueError, TypeError) as error:
        raise AddressRefused(f"not a URL: {error}") from None
    if found.scheme not in _PORTS:
        raise AddressRefused("the URL must begin with http:// or https://")
    if not found.host:
        raise AddressRefused("the URL names no host")
    if found.port is not None and not 0 < found.port < 2**16:
        raise AddressRefused("the URL names a port that does not exist")
    if found.userinfo:
        raise AddressRefused("the URL must not contain credentials")
    return found
