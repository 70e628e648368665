"""One HTTP connection to the service: the key, time limits, repeats, and errors as exceptions."""

import time
from typing import Any

import httpx2

from service.client.errors import ServiceUnreachable, refusal

_TIMEOUT = httpx2.Timeout(30.0, connect=5.0)
_NEVER_PROXIED = {"all://127.0.0.1": None, "all://localhost": None}  # a service on this machine
_PAUSES_SECONDS = (0.2, 1.0)  # before the second and the third try


class Connection:
    """Sends requests and returns only answers that are good."""

    def __init__(self, base_url: str, api_key: str, *, transport: httpx2.BaseTransport | None) -> None:
        self._address = base_url
        headers = {"Authorization": f"Bearer {api_key}"}
        self._http = httpx2.Client(
            base_url=base_url, headers=headers, timeout=_TIMEOUT, transport=transport, mounts=_NEVER_PROXIED
        )

    def get(self, path: str, *, accept_status: int = 200, **params: Any) -> bytes:
        """Read something; repeated if the connection fails, since reading changes nothing."""
        given = {name: value for name, value in params.items() if value is not None}
        for pause in _PAUSES_SECONDS:
            try:
                return self._send("GET", path, accept_status=accept_status, params=given)
            except ServiceUnreachable:
                time.sleep(pause)
        return self._send("GET", path, accept_status=accept_status, params=given)

    def post(self, path: str, document: Any = None) -> bytes:
        """Do something, once: an answer that got lost may mean that it was done."""
        return self._send("POST", path, json=document)

    def close(self) -> None:
        self._http.close()

    def _send(self, method: str, path: str, *, accept_status: int = 200, **options: Any) -> bytes:
        try:
            response = self._http.request(method, path, **options)
        except httpx2.TimeoutException:
            raise ServiceUnreachable(f"{self._address} did not answer in time: is it overloaded? try again") from None
        except httpx2.TransportError as error:
            raise ServiceUnreachable(f"cannot reach {self._address} ({error}): is the service started?") from None
        if response.is_success or response.status_code == accept_status:
            return response.content
        raise refusal(response.status_code, response.content, address=self._address)
