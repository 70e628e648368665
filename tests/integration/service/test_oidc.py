"""Tokens of an identity provider: the good ones are let in as who they say, the others are not."""

import base64
import hmac
import json
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding
from joserfc import jwt
from joserfc.jwk import RSAKey

from service.clock import utc_now
from service.settings import Oidc
from service.web.jwks import PublishedKeys
from service.web.oidc import IdentityProvider
from tests.support.gate import Gate, gate
from tests.support.issuer import AUDIENCE, Issuer, issuer
from tests.support.plane import KEY, served_in
from tests.support.problems import code

NESTED = base64.urlsafe_b64encode(b"[" * 30_000).decode().rstrip("=")


@pytest.fixture
def idp() -> Iterator[Issuer]:
    with issuer() as idp:
        yield idp


def trusting(idp: Issuer, **changes: Any) -> IdentityProvider:
    oidc = Oidc(issuer=idp.url, audience=AUDIENCE, **changes)
    return IdentityProvider(oidc=oidc, keys=PublishedKeys(issuer=idp.url))


@pytest.fixture
async def door(tmp_path: Path, idp: Issuer) -> AsyncIterator[Gate]:
    url = f"sqlite:///{tmp_path / 'service.db'}"
    async with gate(url, identity_provider=trusting(idp)) as door:
        yield door


async def shown(door: Gate, token: str) -> httpx2.Response:
    return await door.api.get("/v1/things/a", headers=door.using(token))


async def test_a_good_token_is_its_subject_with_the_scopes_that_are_ours(door: Gate, idp: Issuer) -> None:
    token = idp.token(door.clock.now)

    response = await shown(door, token)

    assert response.json() == {"name": "a", "by": "oidc:ada", "project": "default"}
    refused = await door.api.post("/v1/things", json={"name": "a"}, headers=door.using(token))
    assert code(refused) == (403, "forbidden")
    assert (await door.audit())[0]["actor"] == "oidc:ada"
    await shown(door, token)
    assert idp.requests == ["/.well-known/openid-configuration", "/keys"]


@pytest.mark.parametrize(
    ("claims", "name"),
    [
        ({}, None),
        ({"email": "ada@example.org"}, "ada@example.org"),
        ({"email": "ada@example.org", "email_verified": True}, "ada@example.org"),
        ({"email": "boss@example.org", "email_verified": False}, None),
        ({"email": "ada\x1b[31m@example.org"}, None),
        ({"email": "a" * 300}, None),
        ({"email": ["ada@example.org"]}, None),
        ({"email": ""}, None),
    ],
)
async def test_a_token_is_known_to_people_by_its_address_if_that_is_one(
    door: Gate, idp: Issuer, claims: dict[str, Any], name: str | None
) -> None:
    principal = await trusting(idp).principal(idp.token(door.clock.now, **claims), now=door.clock.now)

    assert (principal.id, principal.name) == ("oidc:ada", name)


async def test_elliptic_keys_and_several_audiences_will_do(door: Gate, idp: Issuer) -> None:
    idp.add_key("curve", "EC")

    response = await shown(door, idp.token(door.clock.now, key="curve", aud=["other", AUDIENCE]))

    assert response.status_code == 200


def _by_hand(header: dict[str, Any], claims: dict[str, Any], sign: Callable[[bytes], bytes]) -> str:
    """A token that a decent library refuses to make."""

    def part(value: bytes) -> bytes:
        return base64.urlsafe_b64encode(value).rstrip(b"=")

    signed = b".".join(part(json.dumps(one).encode()) for one in ({"kid": "first", **header}, claims))
    return (signed + b"." + part(sign(signed))).decode()


def _none(idp: Issuer, now: Any) -> str:
    return _by_hand({"alg": "none"}, idp.claims(now), lambda _: b"")


def _signed_with_the_public_key(idp: Issuer, now: Any) -> str:
    public = RSAKey.import_key(idp.keys["first"].as_dict(private=False)).as_pem(private=False)
    return _by_hand({"alg": "HS256"}, idp.claims(now), lambda text: hmac.digest(public, text, "sha256"))


def _critical(idp: Issuer, now: Any) -> str:
    key = RSAKey.import_key(idp.keys["first"].as_dict(private=True)).private_key
    assert key is not None
    header = {"alg": "RS256", "crit": ["x"], "x": 1}
    return _by_hand(header, idp.claims(now), lambda text: key.sign(text, padding.PKCS1v15(), hashes.SHA256()))


def _forged(idp: Issuer, now: Any) -> str:
    return jwt.encode({"alg": "RS256", "kid": "first"}, idp.claims(now), RSAKey.generate_key(2048))


def _changed(idp: Issuer, now: Any) -> str:
    head, _, signature = idp.token(now).split(".")
    other = idp.token(now, scope="admin").split(".")[1]
    return f"{head}.{other}.{signature}"


@pytest.mark.parametrize(
    "bad",
    [
        pytest.param(_none, id="alg none"),
        pytest.param(_signed_with_the_public_key, id="HS256 with the public key"),
        pytest.param(_forged, id="another key"),
        pytest.param(_changed, id="another payload"),
        pytest.param(lambda idp, now: idp.token(now, aud="another service"), id="another audience"),
        pytest.param(lambda idp, now: idp.token(now, aud=None), id="no audience"),
        pytest.param(lambda idp, now: idp.token(now, iss="https://evil.test"), id="another issuer"),
        pytest.param(lambda idp, now: idp.token(now, exp=int(now.timestamp()) - 61), id="expired"),
        pytest.param(lambda idp, now: idp.token(now, exp=None), id="no expiry"),
        pytest.param(lambda idp, now: idp.token(now, exp="soon"), id="an expiry that is none"),
        pytest.param(lambda idp, now: idp.token(now, nbf=int(now.timestamp()) + 61), id="not yet"),
        pytest.param(lambda idp, now: idp.token(now, sub=None), id="no subject"),
        pytest.param(lambda idp, now: idp.token(now, cdm_project=None), id="no project"),
        pytest.param(lambda idp, now: idp.token(now, header={"kid": "unknown"}), id="unknown key"),
        pytest.param(_critical, id="unknown critical header"),
        pytest.param(lambda idp, now: _by_hand({}, idp.claims(now), lambda _: b"x"), id="no algorithm"),
        pytest.param(lambda idp, now: _by_hand({"alg": 5}, idp.claims(now), lambda _: b"x"), id="a number for one"),
        pytest.param(
            lambda idp, now: _by_hand({"alg": "RS256", "kid": [1]}, {}, lambda _: b"x"), id="a list for a key"
        ),
        pytest.param(lambda idp, now: f"{NESTED}.W10.W10", id="nested beyond measure"),
        pytest.param(lambda idp, now: "a.b.c", id="no token"),
        pytest.param(lambda idp, now: "..", id="nothing"),
        pytest.param(lambda idp, now: "W10.W10.W10", id="lists"),
    ],
)
async def test_a_token_that_is_not_good_is_refused(door: Gate, idp: Issuer, bad: Any) -> None:
    token = bad(idp, door.clock.now)

    response = await shown(door, token)

    assert code(response) == (401, "not_authenticated")
    assert token not in response.text


async def test_clocks_may_differ_by_a_minute(door: Gate, idp: Issuer) -> None:
    just_expired = idp.token(door.clock.now, exp=int(door.clock.now.timestamp()) - 59)

    assert (await shown(door, just_expired)).status_code == 200


async def test_a_new_key_is_fetched_when_a_token_names_it_but_not_at_every_made_up_name(
    door: Gate, idp: Issuer
) -> None:
    await shown(door, idp.token(door.clock.now))
    idp.add_key("second")
    new = idp.token(door.clock.now, key="second")
    assert code(await shown(door, new)) == (401, "not_authenticated")  # asked a moment ago

    door.clock.advance(10)
    assert (await shown(door, new)).status_code == 200
    asked = idp.requests.count("/keys")
    for number in range(5):
        await shown(door, idp.token(door.clock.now, header={"kid": f"made-up-{number}"}))

    assert idp.requests.count("/keys") == asked


async def test_a_withdrawn_key_is_not_trusted_for_ever(door: Gate, idp: Issuer) -> None:
    await shown(door, idp.token(door.clock.now))
    idp.add_key("second")
    door.clock.advance(3601)
    old = idp.token(door.clock.now)
    del idp.keys["first"]

    assert code(await shown(door, old)) == (401, "not_authenticated")


async def test_while_the_provider_is_down_known_keys_serve_and_unknown_ones_are_nobodys_fault(
    door: Gate, idp: Issuer
) -> None:
    idp.down = True
    before = await shown(door, idp.token(door.clock.now))
    assert code(before) == (503, "identity_provider_unavailable")
    assert before.headers["Retry-After"] == "5"

    idp.down = False
    door.clock.advance(10)
    assert (await shown(door, idp.token(door.clock.now))).status_code == 200
    assert (await shown(door, idp.token(door.clock.now, header={"kid": "unknown"}))).status_code == 401

    idp.down = True
    door.clock.advance(2 * 3600)
    assert (await shown(door, idp.token(door.clock.now))).status_code == 200
    unknown = await shown(door, idp.token(door.clock.now, header={"kid": "unknown"}))
    assert code(unknown) == (503, "identity_provider_unavailable")
    door.clock.advance(86400)
    assert code(await shown(door, idp.token(door.clock.now))) == (503, "identity_provider_unavailable")


async def test_keys_that_another_issuer_publishes_are_not_even_asked_for(door: Gate, idp: Issuer) -> None:
    idp.called = "https://elsewhere.example.org"

    assert code(await shown(door, idp.token(door.clock.now))) == (503, "identity_provider_unavailable")
    assert idp.requests == ["/.well-known/openid-configuration"]


@pytest.mark.parametrize(
    ("claims", "scopes_claim", "is_admin"),
    [
        ({"realm_access": {"roles": ["admin", 7]}}, "realm_access.roles", True),
        ({"https://cdm.test/scopes": ["admin"]}, "https://cdm.test/scopes", True),
        ({"groups": {"admin": True}}, "groups", False),
        ({"scope": "administrator"}, "scope", False),
        ({"scope": None}, "scope", False),
    ],
)
async def test_scopes_come_from_the_claim_that_is_configured(
    tmp_path: Path, idp: Issuer, claims: dict[str, Any], scopes_claim: str, is_admin: bool
) -> None:
    url = f"sqlite:///{tmp_path / 'service.db'}"
    provider = trusting(idp, scopes_claim=scopes_claim, default_project="default")
    async with gate(url, identity_provider=provider) as door:
        token = idp.token(door.clock.now, cdm_project=None, **claims)

        response = await door.api.get("/v1/audit", headers=door.using(token))

    assert response.status_code == (200 if is_admin else 403)


async def test_an_application_goes_by_its_settings(tmp_path: Path, idp: Issuer) -> None:
    settings = {
        "issuer": idp.url,
        "audience": "training",
        "jwks_url": f"{idp.url}/keys",
        "project_claim": "tenant",
        "scopes_claim": "realm_access.roles",
        "default_project": "audio",
    }
    roles = {"aud": "training", "scope": None, "cdm_project": None, "realm_access": {"roles": ["admin"]}}
    async with served_in(tmp_path, oidc=settings) as served:

        async def asked(**claims: Any) -> httpx2.Response:
            token = idp.token(utc_now(), **{**roles, **claims})
            return await served.api.post(
                "/v1/api-keys", json={"scopes": ["jobs:read"]}, headers={"Authorization": f"Bearer {token}"}
            )

        for name in ("vision", "audio"):
            made = await served.api.post("/v1/projects", json={"name": name})
            assert made.status_code == 201
        named, unnamed = await asked(tenant="vision"), await asked()
        elsewhere, without = await asked(aud=AUDIENCE), await asked(realm_access=None, scope="admin")
        with_key = await served.api.get("/v1/projects", headers={"Authorization": f"Bearer {KEY}"})

    assert [answer.json()["project"] for answer in (named, unnamed)] == ["vision", "audio"]
    assert code(elsewhere) == (401, "not_authenticated")
    assert code(without) == (403, "forbidden")
    assert with_key.status_code == 200
    assert idp.requests == ["/keys"], "no document had to say where they are"


async def test_a_project_that_does_not_exist_lets_nobody_in(door: Gate, idp: Issuer) -> None:
    assert code(await shown(door, idp.token(door.clock.now, cdm_project="none"))) == (403, "forbidden")


async def test_without_a_provider_tokens_mean_nothing(tmp_path: Path, idp: Issuer) -> None:
    async with gate(f"sqlite:///{tmp_path / 'service.db'}") as door:
        assert code(await shown(door, idp.token(door.clock.now))) == (401, "not_authenticated")
    assert idp.requests == []
