"""Requests to URLs that users give, sent to the very addresses that were looked at."""

import ssl

import httpx2

from service.web.addresses import AddressGuard, AddressRefused, parsed

# A connection is known by its address, not by whose certificate it saw.
_NO_REUSE = httpx2.Limits(max_keepalive_connections=0)
PROJECT = "project"  # the extension of a request that says whose URL it is


class GuardedTransport(httpx2.AsyncBaseTransport):
    """Connects by address, and keeps the name for the header `Host` and for TLS. Addresses are tried in turn.

    What the guard refuses is a ConnectError, since to the sender it is a destination that cannot be reached.
    """

    def __init__(self, guard: AddressGuard, inner: httpx2.AsyncBaseTransport | None = None) -> None:
        self._guard = guard
        self._inner = inner or httpx2.AsyncHTTPTransport(
            verify=ssl.create_default_context(),  # of the system, and of SSL_CERT_FILE; proxies are not asked
            trust_env=False,
            limits=_NO_REUSE,
        )

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        url = request.url
        try:
            addresses = await self._guard.addresses(parsed(str(url)), project=request.extensions.get(PROJECT, ""))
        except AddressRefused as error:
            raise httpx2.ConnectError(str(error), request=request) from error
        request.extensions = {**request.extensions, "sni_hostname": url.host}
        failure: httpx2.TransportError = httpx2.ConnectError(f"{url.host} has no address", request=request)
        for address in addresses:
            request.url = url.copy_with(host=str(address))
            try:
                return await self._inner.handle_async_request(request)
            except (httpx2.ConnectError, httpx2.ConnectTimeout) as error:
                failure = error
            finally:
                request.url = url
        raise failure

    async def aclose(self) -> None:
        await self._inner.aclose()


def guarded_client(guard: AddressGuard, *, timeout_seconds: float) -> httpx2.AsyncClient:
    """A client for URLs of users. It follows no redirects and asks no proxy of the environment to connect for it."""
    return httpx2.AsyncClient(
        transport=GuardedTransport(guard), timeout=timeout_seconds, follow_redirects=False, trust_env=False
    )
