"""Who asks, and what they may do."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Annotated, cast

from fastapi import Depends, Request

from service.errors import Forbidden
from service.web.views import Scope

BOOTSTRAP = "bootstrap"  # the id of whoever holds the key of the settings
DEFAULT_PROJECT = "default"


@dataclass(frozen=True, slots=True, kw_only=True)
class Principal:
    """Someone who has shown a valid credential. `project` is the one they act in with this request.

    `name` is for people: of the API key, or the e-mail address of the token. It proves nothing.
    """

    id: str
    project: str
    scopes: frozenset[Scope]
    name: str | None = None

    def may(self, scope: Scope) -> bool:
        return scope in self.scopes or Scope.ADMIN in self.scopes

    def require(self, scope: Scope) -> None:
        """Raises Forbidden, naming the scope, if they lack it."""
        if not self.may(scope):
            raise Forbidden(f"this needs the scope {scope}", required_scope=scope)


def _allowed(scope: Scope) -> Callable[[Request], Awaitable[Principal]]:
    async def principal(request: Request) -> Principal:
        asking = cast(Principal, request.state.principal)
        asking.require(scope)
        return asking

    return principal


# Parameters of routes; each refuses with 403, naming the scope that is missing. `admin` stands for all scopes.
Reader = Annotated[Principal, Depends(_allowed(Scope.READ))]
Writer = Annotated[Principal, Depends(_allowed(Scope.WRITE))]
Admin = Annotated[Principal, Depends(_allowed(Scope.ADMIN))]
