"""Which of the keys that an identity provider publishes a token is held against, and where they are looked for."""

from collections.abc import Iterator

import pytest
from joserfc import jwt

from service.clock import utc_now
from service.errors import IdentityProviderUnavailable, NotAuthenticated
from service.settings import Oidc
from service.web.jwks import PublishedKeys
from service.web.oidc import IdentityProvider
from tests.support.clock import ManualClock
from tests.support.issuer import AUDIENCE, Issuer, issuer


@pytest.fixture
def idp() -> Iterator[Issuer]:
    with issuer() as idp:
        yield idp


async def test_a_token_that_names_no_key_is_signed_with_the_only_one_or_refused(idp: Issuer) -> None:
    clock, keys = ManualClock(), PublishedKeys(issuer=idp.url)
    provider = IdentityProvider(oidc=Oidc(issuer=idp.url, audience=AUDIENCE), keys=keys)

    async def whose() -> str:
        token = jwt.encode({"alg": "RS256"}, idp.claims(clock()), idp.keys["first"])
        return (await provider.principal(token, now=clock())).id

    assert await whose() == "oidc:ada"
    idp.add_key("second")
    clock.advance(3601)
    with pytest.raises(NotAuthenticated, match="does not publish"):
        await whose()


async def test_an_issuer_whose_name_ends_with_a_slash_is_asked_where_others_are(idp: Issuer) -> None:
    with pytest.raises(IdentityProviderUnavailable):  # there is nothing below that name
        await PublishedKeys(issuer=f"{idp.url}/realm/").for_id("first", now=utc_now())

    assert idp.requests == ["/realm/.well-known/openid-configuration"]
