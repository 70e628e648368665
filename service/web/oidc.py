"""Tokens of an OpenID Connect provider as credentials: checked here, against the keys it publishes."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, cast

from joserfc import jws, jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet

from service.errors import NotAuthenticated
from service.settings import Oidc
from service.web.jwks import PublishedKeys
from service.web.principal import Principal
from service.web.views import Scope

ALGORITHMS = ("RS256", "ES256")  # signatures only: with HS256 anyone who knows the public key could sign
_LEEWAY_SECONDS = 60
_LONGEST_EMAIL = 254  # RFC 5321


@dataclass(frozen=True, slots=True, kw_only=True)
class IdentityProvider:
    """Whose tokens are taken, and which of their claims say what.

    A claim is looked up by its whole name (`https://cdm/scopes`), then as a path (`realm_access.roles`). Scopes are a
    list, or words in one text; those that are not ours are left out. Without a project claim it is `default_project`;
    without that, a token that names no project is refused.
    """

    oidc: Oidc
    keys: PublishedKeys

    async def principal(self, token: str, *, now: datetime) -> Principal:
        """Who the token speaks for.

        Raises:
            NotAuthenticated: if it is not good, saying why: its holder can read it anyway.
            IdentityProviderUnavailable: if the key it is signed with is not known here and cannot be asked for now.
                Not 401: the token may be good, and a client must not throw it away.
        """
        try:
            keys = await self.keys.for_id(jws.extract_compact(token.encode()).headers().get("kid"), now=now)
            claims = _verified(token, keys)
            self._check(claims, now=now)
        except (JoseError, ValueError, TypeError, KeyError, RecursionError) as error:  # strangers write these texts
            raise NotAuthenticated(f"the token is not good: {error}") from None
        scopes = _words(_claim(claims, self.oidc.scopes_claim))
        project = _claim(claims, self.oidc.project_claim) or self.oidc.default_project
        if not isinstance(project, str):
            raise NotAuthenticated(f"the token names no project: it has no claim {self.oidc.project_claim}")
        known = frozenset(scope for scope in Scope if scope in scopes)
        return Principal(id=f"oidc:{claims['sub']}", project=project, scopes=known, name=_email(claims))

    def _check(self, claims: dict[str, Any], *, now: datetime) -> None:
        jwt.JWTClaimsRegistry(
            now=int(now.timestamp()),
            leeway=_LEEWAY_SECONDS,
            iss={"essential": True, "value": self.keys.issuer},
            aud={"essential": True, "value": self.oidc.audience},
            exp={"essential": True},
            sub={"essential": True},
        ).validate(claims)


def _verified(token: str, keys: KeySet) -> dict[str, Any]:
    return jwt.decode(token, keys, algorithms=ALGORITHMS).claims


def _claim(claims: Mapping[str, Any], name: str) -> object:
    if name in claims:
        return claims[name]
    found: object = claims
    for part in name.split("."):
        found = found.get(part) if isinstance(found, Mapping) else None
    return found


def _email(claims: Mapping[str, Any]) -> str | None:
    """For people to know them by; None if the issuer says none, or that it has not been verified."""
    email, is_unverified = claims.get("email"), claims.get("email_verified") is False
    is_plain = isinstance(email, str) and email.isprintable() and 0 < len(email) <= _LONGEST_EMAIL
    return cast(str, email) if is_plain and not is_unverified else None


def _words(value: object) -> frozenset[str]:
    words = value.split() if isinstance(value, str) else value if isinstance(value, list) else []
    return frozenset(word for word in words if isinstance(word, str))
