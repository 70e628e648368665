"""Files of the web. A URL of a user must not lead a worker into the network that it lives in."""

import ssl
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import httpx2

from workers.contract.addresses import PORTS, Address, Network, is_address, is_open, looked_up
from workers.data.errors import DatasetError
from workers.data.remotes import Remote

_CONNECT_SECONDS, _SILENCE_SECONDS = 10.0, 60.0
_MAX_REDIRECTS = 5
_MAX_TRIES = 4  # of one request, and of resuming without having got on
_PAUSE_SECONDS = 2.0
_PASSING = frozenset({429, 500, 502, 503, 504})
# As it is in the file: what a server packs on the way has another length and another digest.
_HEADERS = {"Accept-Encoding": "identity", "User-Agent": "cdm-train"}

Resolve = Callable[[str, int], Sequence[Address]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Web:
    """How files are fetched: only from public addresses and `networks`, and only up to a size."""

    max_bytes: int
    networks: Sequence[Network] = ()
    resolve: Resolve = looked_up
    sleep: Callable[[float], None] = time.sleep

    @contextmanager
    def remote(self, url: str, *, is_known: bool) -> Iterator[Remote]:
        """The file behind a URL, and behind its redirects. `is_known`: its sha256 will be compared.

        What is said of it names no query: that of a redirect may be a credential.

        Raises:
            DatasetError: it cannot be had, or should not be.
        """
        name = url.partition("?")[0]
        timeout = httpx2.Timeout(_SILENCE_SECONDS, connect=_CONNECT_SECONDS)
        with httpx2.Client(transport=_Guarded(self), timeout=timeout, headers=_HEADERS, trust_env=False) as client:
            download = _Download(client, name, self, is_known=is_known)
            with download.begun(httpx2.URL(url)) as response:
                yield Remote(name, _length(response), None, download.pieces(response))


class _Download:
    def __init__(self, client: httpx2.Client, name: str, web: Web, *, is_known: bool) -> None:
        self._client, self._name, self._web, self._is_known = client, name, web, is_known
        self._response: httpx2.Response | None = None

    @contextmanager
    def begun(self, url: httpx2.URL) -> Iterator[httpx2.Response]:
        """The beginning of an answer that is good, and not too large."""
        response = self._asked(url, {})
        try:
            if response.status_code != 200:
                raise DatasetError(f"{self._name}: {response.url.host} answered {response.status_code}; see the URL")
            self._check_size(_length(response) or 0)
            yield response
        finally:
            if self._response:
                self._response.close()

    def pieces(self, response: httpx2.Response) -> Iterator[bytes]:
        """All of it. Where it is cut off it is asked for from there on, if it is still the same."""
        done, total, tag, tries = 0, _length(response), response.headers.get("etag", ""), 0
        while True:
            before = done
            try:
                for piece in response.iter_raw():  # as it comes: what is gathered is lost with the connection
                    done += len(piece)
                    self._check_size(done)
                    yield piece
                return
            except httpx2.TransportError as error:
                tries = tries + 1 if done == before else 1
                if tries >= _MAX_TRIES or not tag or tag.startswith("W/"):
                    raise self._cut_off(done, total, error) from None
            response.close()
            self._web.sleep(_PAUSE_SECONDS)
            response = self._asked(response.url, {"Range": f"bytes={done}-", "If-Range": tag})
            goes_on = f"bytes {done}-"
            if response.status_code != 206 or not response.headers.get("content-range", "").startswith(goes_on):
                raise self._cut_off(done, total, None)

    def _asked(self, url: httpx2.URL, headers: dict[str, str]) -> httpx2.Response:
        """The answer behind all redirects, its content still to come."""
        for _ in range(_MAX_REDIRECTS + 1):
            response = self._sent(url, headers)
            if not response.has_redirect_location:
                return response
            response.close()
            url = self._followed(url, response.headers["location"])
        raise DatasetError(
            f"{self._name}: is redirected more than {_MAX_REDIRECTS} times; give the URL that it ends at"
        )

    def _followed(self, url: httpx2.URL, location: str) -> httpx2.URL:
        try:
            target = url.join(location)
        except httpx2.InvalidURL:
            raise DatasetError(f"{self._name}: is redirected to what is no URL") from None
        if target.scheme not in PORTS or not target.host or target.userinfo:
            raise DatasetError(f"{self._name}: is redirected to what is no plain URL of the web")
        if target.scheme == "http" and not self._is_known:
            reason = f"is redirected to http://{target.host}, where anybody on the way could change it"
            raise DatasetError(f"{self._name}: {reason}; give its sha256")
        return target

    def _sent(self, url: httpx2.URL, headers: dict[str, str]) -> httpx2.Response:
        for left in reversed(range(_MAX_TRIES)):
            try:
                request = self._client.build_request("GET", url, headers=headers)
                self._response = response = self._client.send(request, stream=True)
                if response.status_code not in _PASSING or not left:
                    return response
                response.close()
            except _NotPublic as error:
                if not left or is_address(url.host):
                    raise DatasetError(f"{self._name}: {error}") from None
            except httpx2.TransportError as error:
                if not left:
                    raise DatasetError(f"{self._name}: cannot reach {url.host} ({type(error).__name__})") from None
            self._web.sleep(_PAUSE_SECONDS)
        raise AssertionError("the last try returns or raises")

    def _check_size(self, num_bytes: int) -> None:
        if num_bytes > self._web.max_bytes:
            most = f"at most {self._web.max_bytes >> 20} MiB are fetched (CDM_MAX_DOWNLOAD_BYTES of the workers)"
            raise DatasetError(f"{self._name}: is too large; {most}")

    def _cut_off(self, done: int, total: int | None, error: Exception | None) -> DatasetError:
        why = f" ({type(error).__name__})" if error else ", and the rest is not the same any more"
        return DatasetError(f"{self._name}: is cut off after {done} of {total or 'unknown'} bytes{why}; try again")


class _NotPublic(httpx2.ConnectError):
    """The URL leads nowhere that one goes for others; the text says no more."""


class _Guarded(httpx2.BaseTransport):
    """Connects to the very addresses that were looked at; keeps the name for the header `Host` and for TLS."""

    def __init__(self, web: Web) -> None:
        self._web = web
        # A connection is known by its address, not by whose certificate it saw: none is used twice.
        limits = httpx2.Limits(max_keepalive_connections=0)
        context = ssl.create_default_context()  # of the system, and of SSL_CERT_FILE; proxies are not asked
        self._inner = httpx2.HTTPTransport(verify=context, trust_env=False, limits=limits)

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        url = request.url
        failure: httpx2.TransportError = httpx2.ConnectError(f"{url.host} has no address", request=request)
        request.extensions = {**request.extensions, "sni_hostname": url.host}
        for address in self._addresses(url):
            request.url = url.copy_with(host=str(address))
            try:
                return self._inner.handle_request(request)
            except (httpx2.ConnectError, httpx2.ConnectTimeout) as error:
                failure = error
            finally:
                request.url = url
        raise failure

    def _addresses(self, url: httpx2.URL) -> Sequence[Address]:
        """Where it leads. A name that is not known and one of this network are alike, also in the time they take."""
        try:
            found = self._web.resolve(url.host, url.port or PORTS[url.scheme])
        except (OSError, UnicodeError, ValueError):
            found = ()
        if not found or not all(is_open(address, self._web.networks) for address in found):
            raise _NotPublic(f"{url.host} leads to no public address; the workers go nowhere else")
        return found

    def close(self) -> None:
        self._inner.close()


def _length(response: httpx2.Response) -> int | None:
    """Of the file, as far as the server says."""
    text = response.headers.get("content-length", "")
    return int(text) if text.isascii() and text.isdigit() else None
