"""One HTTP connection to the service: the key, time limits, repeats, and errors as exceptions."""

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar
from uuid import uuid4

import httpx2
from pydantic import ValidationError

from service.client.documents import Model, understood
from service.client.errors import ClientError, NotFound, RequestFailed, ServiceUnreachable
from service.client.refusals import foreign, not_understood, refusal
from service.client.retries import Policy, Repeat, Timing, may_be_done

_CONNECT_SECONDS, _READ_SECONDS = 5.0, 30.0
_SILENCE_SECONDS = 45.0  # a stream is pinged every 15 s
NEVER_PROXIED = {"all://127.0.0.1": None, "all://localhost": None}  # a service on this machine
_NEVER_ASKED = (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout)

Result = TypeVar("Result")


class Connection:
    """Sends requests and returns only answers that are good."""

    def __init__(
        self,
        base_url: str,
        api_key: str,
        *,
        project: str | None,
        policy: Policy,
        timing: Timing,
        transport: httpx2.BaseTransport | None,
    ) -> None:
        self.address = base_url
        self.project = project
        self.policy = policy
        self.timing = timing
        headers = {"Authorization": f"Bearer {_sendable(api_key, what='the API key')}"}
        headers |= {"Cdm-Project": _sendable(project, what="the project")} if project else {}
        with self._speaking():
            self._http = httpx2.Client(base_url=base_url, headers=headers, transport=transport, mounts=NEVER_PROXIED)

    def get(
        self,
        model: type[Model],
        path: str,
        *,
        accept_status: int = 200,
        within_seconds: float = math.inf,
        **params: Any,
    ) -> Model:
        """Read something."""
        answer = self.answer(
            "GET", path, accept_status=accept_status, within_seconds=within_seconds, params=_given(params)
        )
        return self.read(model, answer)

    def post(
        self, model: type[Model], path: str, document: Any = None, *, idempotency_key: str | None = None, **params: Any
    ) -> Model:
        """Do something, once: however often it is sent, the service knows it by its Idempotency-Key."""
        headers = {"Idempotency-Key": idempotency_key or uuid4().hex}
        body = {} if document is None else {"json": document}
        return self.read(model, self.answer("POST", path, headers=headers, params=_given(params), **body))

    def patch(self, model: type[Model], path: str, document: Any, *, if_match: str | None = None) -> Model:
        """Change something. With `if_match` it is sent again only if it was certainly not carried out."""
        if if_match is None:
            return self.read(model, self.answer("PATCH", path, json=document))
        headers = {"If-Match": if_match}
        answer = self.answer("PATCH", path, repeat=Repeat.IF_NOT_DONE, headers=headers, json=document)
        return self.read(model, answer)

    def delete(self, path: str, **params: Any) -> None:
        """Remove something. Sent again after a lost answer, it may find that done: that is success."""
        try:
            self.answer("DELETE", path, params=_given(params))
        except NotFound as error:
            if not error.may_be_done:
                raise

    def answer(
        self,
        method: str,
        path: str,
        *,
        repeat: Repeat = Repeat.FREELY,
        accept_status: int = 200,
        within_seconds: float = math.inf,
        **options: Any,
    ) -> httpx2.Response:
        """The good answer to a request, which is repeated as long as that is safe and may help.

        `within_seconds` = less patience than there is for others.
        """

        def send(timeout: httpx2.Timeout) -> httpx2.Response:
            return self._send(method, path, accept_status=accept_status, timeout=timeout, **options)

        return self._patiently(send, repeat, self.policy.within(within_seconds))

    def fetch(
        self,
        path: str,
        receive: Callable[[httpx2.Response], None],
        *,
        headers: Callable[[], Mapping[str, str]],
        **params: Any,
    ) -> None:
        """Hand over an answer whose content is still to come; again, with the headers of then, should it break off."""

        def send(_: httpx2.Timeout) -> None:
            plain = {"Accept-Encoding": "identity"}  # or Content-Length would count other bytes than come
            with self.streamed(path, headers={**plain, **headers()}, **params) as response:
                receive(response)

        self._patiently(send, Repeat.FREELY, self.policy)

    def _patiently(self, send: Callable[[httpx2.Timeout], Result], repeat: Repeat, policy: Policy) -> Result:
        begun_at, tries, lost = self.timing.monotonic(), 0, False
        while True:
            spent = self.timing.monotonic() - begun_at
            try:
                return send(_timeout(policy.total_seconds - spent))
            except (RequestFailed, ServiceUnreachable) as error:
                error.may_be_done = lost = lost or may_be_done(error)
                tries += 1
                spent, jitter = self.timing.monotonic() - begun_at, self.timing.jitter()
                pause = policy.pause_seconds(error, repeat=repeat, tries=tries, spent_seconds=spent, jitter=jitter)
                if pause is None:
                    raise
            self.timing.sleep(pause)

    @contextmanager
    def streamed(self, path: str, *, headers: Mapping[str, str], **params: Any) -> Iterator[httpx2.Response]:
        """An answer whose content is still to come; sent once. What breaks on the way is ServiceUnreachable."""
        options: dict[str, Any] = {"headers": headers, "params": _given(params)}
        timeout = httpx2.Timeout(_SILENCE_SECONDS, connect=_CONNECT_SECONDS)
        with self._speaking(), self._http.stream("GET", path, timeout=timeout, **options) as response:
            if not response.is_success:
                response.read()
                raise refusal(response, address=self.address, now=self.timing.now())
            yield response

    def read(self, model: type[Model], response: httpx2.Response) -> Model:
        """What the answer says; whoever answers with something else is not the service, or not of this release."""
        try:
            return understood(model, response.content)
        except ValidationError as error:
            raise foreign(response, address=self.address, now=self.timing.now(), error=error) from None

    def read_message(self, model: type[Model], data: str) -> Model:
        """The same of a message of a stream."""
        try:
            return understood(model, data)
        except ValidationError as error:
            raise ClientError(f"{self.address} sends {not_understood(error)}") from None

    def close(self) -> None:
        self._http.close()

    def _send(self, method: str, path: str, *, accept_status: int, **options: Any) -> httpx2.Response:
        with self._speaking():
            response = self._http.request(method, path, **options)
        if response.is_success or response.status_code == accept_status:
            return response
        raise refusal(response, address=self.address, now=self.timing.now())

    @contextmanager
    def _speaking(self) -> Iterator[None]:
        try:
            yield
        except httpx2.TransportError as error:
            was_asked = not isinstance(error, _NEVER_ASKED)
            if isinstance(error, httpx2.TimeoutException):
                message = f"{self.address} did not answer in time: is it overloaded? try again"
            else:
                message = f"cannot reach {self.address} ({error}): is the service started?"
            raise ServiceUnreachable(message, was_asked=was_asked) from None
        except (httpx2.InvalidURL, UnicodeError) as error:
            raise ClientError(
                f"nothing can be sent to {self.address} ({error}): mend the address, which is like http://host:8400, "
                "or what is asked for"
            ) from None


def _timeout(left_seconds: float) -> httpx2.Timeout:
    left = max(0.1, left_seconds)
    return httpx2.Timeout(min(_READ_SECONDS, left), connect=min(_CONNECT_SECONDS, left))


def _sendable(text: str, *, what: str) -> str:
    if not text:  # or None, of a variable that is not set
        raise ClientError(f"{what} is missing: see that the variable or file that it is read from has it")
    if not (text.isascii() and text.isprintable()):
        raise ClientError(
            f"{what} has characters that cannot be sent: see that it was copied whole, and nothing else with it"
        )
    return text


def _given(params: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in params.items() if value is not None}
