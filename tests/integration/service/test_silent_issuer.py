"""An identity provider that takes requests and does not answer them is one that is down."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx2
import pytest

from service.settings import Oidc
from service.web.jwks import PublishedKeys
from service.web.oidc import IdentityProvider
from tests.support.fresh_databases import sqlite_url
from tests.support.gate import Gate, gate
from tests.support.issuer import AUDIENCE, Issuer, issuer


@pytest.fixture
def idp() -> Iterator[Issuer]:
    with issuer() as idp:
        yield idp


@pytest.fixture
async def door(tmp_path: Path, idp: Issuer) -> AsyncIterator[Gate]:
    keys = PublishedKeys(issuer=idp.url, patience_seconds=0.5)
    provider = IdentityProvider(oidc=Oidc(issuer=idp.url, audience=AUDIENCE), keys=keys)
    async with gate(sqlite_url(tmp_path / "service.db"), identity_provider=provider) as door:
        yield door


async def shown(door: Gate, token: str) -> httpx2.Response:
    return await door.api.get("/v1/things/a", headers=door.using(token))


async def test_a_token_that_cannot_be_checked_in_time_is_nobodys_fault(door: Gate, idp: Issuer) -> None:
    idp.gate.clear()

    answer = await shown(door, idp.token(door.clock.now))

    assert (answer.status_code, answer.json()["code"]) == (503, "identity_provider_unavailable")
    assert answer.headers["Retry-After"] == "5"
    idp.gate.set()
    door.clock.advance(10)
    assert (await shown(door, idp.token(door.clock.now))).status_code == 200


async def test_known_keys_serve_though_they_are_out_of_date(door: Gate, idp: Issuer) -> None:
    assert (await shown(door, idp.token(door.clock.now))).status_code == 200
    idp.gate.clear()
    door.clock.advance(2 * 3600)

    assert (await shown(door, idp.token(door.clock.now))).status_code == 200
