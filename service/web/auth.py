"""Nothing is served without a credential, but for what says whether the service is well and how it is used.

A credential is a bearer token: the bootstrap key of the settings, an API key, or an identity provider's JWT. Tokens are
never logged and never part of an answer.
"""

import secrets
from typing import Annotated, cast

from fastapi import Header
from fastapi.security import HTTPBearer
from pydantic import SecretStr
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from service.clock import Clock
from service.database import Database
from service.errors import NotAuthenticated, RateLimited
from service.web.api_keys import MARK, ApiKeys
from service.web.oidc import IdentityProvider
from service.web.principal import BOOTSTRAP, DEFAULT_PROJECT, Principal
from service.web.projects import Projects
from service.web.rates import FailedLogins
from service.web.views import Scope as Permission

OPEN_PATHS = frozenset({"/healthz", "/readyz", "/metrics", "/docs", "/docs/oauth2-redirect", "/openapi.json"})

# Only for the description at /docs: the middleware below refuses, and it refuses paths that do not exist, too.
documented_key = HTTPBearer(
    auto_error=False, description="An API key of this service, or a token of its identity provider"
)


async def documented_project(
    _: Annotated[
        str | None,
        Header(alias="Cdm-Project", description="For admins: the project that this is about, if not one's own"),
    ] = None,
) -> None:
    """For the description, too."""


class Authenticator:
    """Turns the header `Authorization` into a principal."""

    def __init__(
        self, database: Database, *, bootstrap_key: SecretStr, identity_provider: IdentityProvider | None, clock: Clock
    ) -> None:
        self.projects = Projects(database)
        self._api_keys = ApiKeys(database)
        self._bootstrap_key = bootstrap_key.get_secret_value().encode()
        self._identity_provider = identity_provider
        self._clock = clock

    async def principal(self, authorization: str) -> Principal:
        """Who shows this credential, in their own project.

        Raises:
            NotAuthenticated: if it is not good. What exactly is wrong with it is told of JWTs only.
            IdentityProviderUnavailable: if it is a JWT and its signature cannot be checked now.
        """
        scheme, _, token = authorization.partition(" ")
        if scheme.lower() != "bearer" or not token:
            raise NotAuthenticated("send the header Authorization: Bearer <API key>")
        if secrets.compare_digest(token.encode(), self._bootstrap_key):
            return Principal(id=BOOTSTRAP, project=DEFAULT_PROJECT, scopes=frozenset(Permission))
        if token.startswith(MARK):
            if found := await self._api_keys.principal(token, now=self._clock()):
                return found
        elif self._identity_provider and token.count(".") == 2:
            return await self._identity_provider.principal(token, now=self._clock())
        raise NotAuthenticated("there is no such API key, or it was revoked or has expired")


class AuthMiddleware:
    """Leaves the principal in `request.state.principal`; finds the Authenticator in `request.state.authenticator`.

    After too many failures an address is refused whatever it shows, or a guess that is right would stand out.
    """

    def __init__(self, app: ASGIApp, *, failures_per_minute: int) -> None:
        self._app = app
        self._failures = FailedLogins(per_minute=failures_per_minute)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] not in OPEN_PATHS:
            address = scope["client"][0] if scope.get("client") else "unknown"
            if wait := await self._failures.seconds_to_wait(address):
                raise RateLimited("too many wrong credentials came from this address", retry_after_seconds=wait)
            try:
                await self._admit(scope)
            except NotAuthenticated:
                await self._failures.count(address)
                raise
        await self._app(scope, receive, send)

    async def _admit(self, scope: Scope) -> None:
        headers, state = Headers(scope=scope), scope["state"]
        authenticator = cast(Authenticator, state["authenticator"])
        principal = await authenticator.principal(headers.get("authorization", ""))
        state["principal"] = principal  # a refusal below is theirs, too
        state["principal"] = await authenticator.projects.admitted(principal, wanted=headers.get("cdm-project"))
