"""URLs that users give: they must not lead this process into the network it lives in.

Names are resolved here, every address of a name is looked at, and the connection goes to an address that was looked at:
what a name resolves to a moment later changes nothing.
"""

import asyncio
import socket
from collections.abc import Awaitable, Callable, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

import httpx2

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network
Resolve = Callable[[str, int], Awaitable[Sequence[Address]]]

_PORTS = {"http": 80, "https": 443}
_NAT64 = (ip_network("64:ff9b::/96"), ip_network("64:ff9b:1::/48"))
# For operators who trust their users with what is near. Link-local is not among it: clouds keep credentials there.
INSIDE: tuple[Network, ...] = tuple(
    map(ip_network, ("127.0.0.0/8", "::1/128", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7"))
)


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
            if not self._is_open(address):
                raise AddressRefused(f"{url.host} is {address}, which is not an address of the public internet")
        return found

    def _is_open(self, address: Address) -> bool:
        final = _inner(address)
        if any(final in network for network in self._networks if network.version == final.version):
            return True
        if isinstance(final, IPv6Address) and final.is_site_local:  # out of use, not out of networks; counts as global
            return False
        return final.is_global and not final.is_multicast and not final.is_reserved and not final.is_unspecified


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


def _inner(address: Address) -> Address:
    """The IPv4 address that an IPv6 address leads to, if it is a way of writing or wrapping one."""
    if isinstance(address, IPv4Address):
        return address
    if any(address in network for network in _NAT64):
        return IPv4Address(int(address) & 0xFFFFFFFF)
    if int(address) >> 32 == 0 and int(address) > 1:  # ::a.b.c.d, long out of use
        return IPv4Address(int(address))
    teredo = address.teredo
    return address.ipv4_mapped or address.sixtofour or (teredo[1] if teredo else None) or address
