"""Where a process goes for somebody else: to addresses of the public internet, and what its operator has opened."""

import socket
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

PORTS = {"http": 80, "https": 443}  # of the schemes that a URL of a user may have
_NAT64 = ip_network("64:ff9b::/96")
# Nothing opens these: where clouds keep the credentials of a machine (AWS and EKS, Google, Azure, Oracle), and a
# network's own NAT64, of which only the network knows where in its addresses those of IPv4 are.
_CLOSED: tuple[Network, ...] = tuple(
    map(
        ip_network,
        (
            *("169.254.0.0/16", "fe80::/10", "fd00:ec2::/32", "fd20:ce::/32", "168.63.129.16/32", "192.0.0.0/24"),
            "64:ff9b:1::/48",
        ),
    )
)
# For operators who trust their users with what is near.
INSIDE: tuple[Network, ...] = tuple(
    map(ip_network, ("127.0.0.0/8", "::1/128", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7"))
)


def looked_up(host: str, port: int) -> Sequence[Address]:
    """All addresses of a name, as the system knows them; waits for the name server.

    Raises:
        OSError: it knows no such name.
        UnicodeError: this cannot be a name.
    """
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return tuple(dict.fromkeys(ip_address(str(sockaddr[0]).partition("%")[0]) for *_, sockaddr in found))


def is_open(address: Address, networks: Sequence[Network] = ()) -> bool:
    """Whether it is public, or in one of these networks."""
    final = _inner(address)
    if _is_in(address, _CLOSED) or _is_in(final, _CLOSED):
        return False
    if _is_in(final, networks):
        return True
    if isinstance(final, IPv6Address) and final.is_site_local:  # out of use, not out of networks; counts as global
        return False
    return final.is_global and not final.is_multicast and not final.is_reserved and not final.is_unspecified


def is_address(host: str) -> bool:
    """Whether it is no name, which may lead elsewhere another time."""
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def _is_in(address: Address, networks: Sequence[Network]) -> bool:
    return any(address in network for network in networks if network.version == address.version)


def _inner(address: Address) -> Address:
    """The IPv4 address that an IPv6 address leads to, if it is a way of writing or wrapping one."""
    if isinstance(address, IPv4Address):
        return address
    if address in _NAT64:
        return IPv4Address(int(address) & 0xFFFFFFFF)
    if int(address) >> 32 == 0 and int(address) > 1:  # ::a.b.c.d, long out of use
        return IPv4Address(int(address))
    teredo = address.teredo
    return address.ipv4_mapped or address.sixtofour or (teredo[1] if teredo else None) or address
