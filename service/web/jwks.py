"""The keys an identity provider signs with, fetched when needed and kept for a while."""

import asyncio
from datetime import datetime, timedelta

import httpx2
import structlog
from joserfc.errors import JoseError
from joserfc.jwk import KeySet

from service.errors import IdentityProviderUnavailable, NotAuthenticated

log = structlog.get_logger()

_PATIENCE_SECONDS = 5.0
_ASK_AGAIN_AFTER = timedelta(seconds=10)  # so that made-up key ids cannot make us a nuisance to the provider
_OUT_OF_DATE_AFTER = timedelta(hours=1)
_WORTHLESS_AFTER = timedelta(days=1)  # a provider that is down this long must not keep withdrawn keys alive
_NOT_FETCHED = (TimeoutError, httpx2.HTTPError, httpx2.InvalidURL, JoseError, ValueError, KeyError, TypeError)


class PublishedKeys:
    """A provider that is down, or slow, does no harm to tokens signed with a key that is known already."""

    def __init__(
        self, *, issuer: str, jwks_url: str | None = None, patience_seconds: float = _PATIENCE_SECONDS
    ) -> None:
        self.issuer = issuer
        self._jwks_url = jwks_url
        self._patience_seconds = patience_seconds
        self._keys: KeySet | None = None
        self._fetched_at: datetime | None = None
        self._asked_at: datetime | None = None
        self._is_reachable = True
        self._asking = asyncio.Lock()

    async def for_id(self, key_id: str | None, *, now: datetime) -> KeySet:
        """The keys, of which one has this id.

        Raises:
            NotAuthenticated: if the provider has no such key.
            IdentityProviderUnavailable: if it cannot be asked.
        """
        if self._fetched_at is None or not self._has(key_id) or now - self._fetched_at > _OUT_OF_DATE_AFTER:
            await self._ask(now)
        if self._keys and self._fetched_at and self._has(key_id) and now - self._fetched_at <= _WORTHLESS_AFTER:
            return self._keys
        if self._is_reachable:
            raise NotAuthenticated("the token is signed with a key that its issuer does not publish")
        raise IdentityProviderUnavailable(f"cannot fetch the keys of {self.issuer} to check the token: try again")

    def _has(self, key_id: str | None) -> bool:
        return self._keys is not None and (
            len(self._keys.keys) == 1 if key_id is None else any(key.kid == key_id for key in self._keys)
        )

    async def _ask(self, now: datetime) -> None:
        async with self._asking:
            if self._asked_at is not None and now - self._asked_at < _ASK_AGAIN_AFTER:
                return
            self._asked_at = now
            try:
                self._keys = await self._fetch()
            except _NOT_FETCHED as error:
                self._is_reachable = False
                log.warning("oidc.keys_not_fetched", issuer=self.issuer, error=f"{type(error).__name__}: {error}")
            else:
                self._is_reachable, self._fetched_at = True, now

    async def _fetch(self) -> KeySet:
        async with asyncio.timeout(self._patience_seconds), httpx2.AsyncClient() as client:
            url = self._jwks_url
            if url is None:
                found = await client.get(self.issuer.rstrip("/") + "/.well-known/openid-configuration")
                document = found.raise_for_status().json()
                if document["issuer"] != self.issuer:
                    raise ValueError(f"the issuer calls itself {document['issuer']!r}")
                url = str(document["jwks_uri"])
            return KeySet.import_key_set((await client.get(url)).raise_for_status().json())
