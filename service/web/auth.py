"""Nothing is served without the key, but for what says whether the service is well and how it is used."""

import secrets

from fastapi.security import HTTPBearer
from pydantic import SecretStr
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from service.errors import NotAuthenticated
from service.web.problems import refusal

_OPEN = frozenset({"/healthz", "/readyz", "/docs", "/docs/oauth2-redirect", "/openapi.json"})

# Only for the description at /docs: the middleware below refuses, and it refuses paths that do not exist, too.
documented_key = HTTPBearer(auto_error=False, description="The API key of this service")


class AuthMiddleware:
    """Wants `Authorization: Bearer <key>`."""

    def __init__(self, app: ASGIApp, *, key: SecretStr) -> None:
        self._app = app
        self._key = key.get_secret_value().encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in _OPEN or self._knows(Headers(scope=scope)):
            await self._app(scope, receive, send)
            return
        response = refusal(Request(scope), NotAuthenticated("send the header Authorization: Bearer <API key>"))
        response.headers["WWW-Authenticate"] = "Bearer"
        await response(scope, receive, send)

    def _knows(self, headers: Headers) -> bool:
        scheme, _, given = headers.get("authorization", "").partition(" ")
        return scheme.lower() == "bearer" and secrets.compare_digest(given.encode(), self._key)
