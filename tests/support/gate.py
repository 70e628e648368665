"""What stands between the world and the use cases, over a real database, with a few routes that do next to nothing."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx2
from fastapi import FastAPI, Response
from pydantic import BaseModel, SecretStr
from starlette.types import ASGIApp, Message

from service.database import Database, open_database
from service.identifiers import new_id
from service.keys.routes import router as keys_router
from service.keys.store import KeyStore
from service.keys.usecases import Keys
from service.settings import Requests
from service.web.audit import CurrentRequester, record_audit
from service.web.auth import Authenticator
from service.web.description import DescribedApp
from service.web.idempotency import ReservedUlid
from service.web.middleware import install_middleware
from service.web.oidc import IdentityProvider
from service.web.principal import Reader, Writer
from service.web.problems import install_problems
from service.web.telemetry import CollectMetrics, Telemetry
from tests.support.clock import ManualClock
from tests.support.fresh_databases import prepare

BOOTSTRAP_KEY = "bootstrap-key-0123456789"
AMPLE = Requests(per_minute=10_000, failures_per_minute=1000, max_body_bytes=10_000, timeout_seconds=10.0)


class Thing(BaseModel):
    name: str
    fails: int | None = None  # with this status, after it was made
    breaks: bool = False


@dataclass
class Gate:
    """The application, and what it works on. `made` counts how often the id of a thing was made."""

    app: FastAPI
    served: ASGIApp  # the application with its state
    api: httpx2.AsyncClient
    database: Database
    clock: ManualClock
    telemetry: Telemetry
    state: dict[str, Any]  # what requests find there
    made: list[str] = field(default_factory=list)

    def using(self, key: str | None, **headers: str) -> dict[str, str]:
        """Headers with this key; they replace the client's."""
        return {"Authorization": f"Bearer {key}" if key else "", **headers}

    async def posted(self, path: str, parts: AsyncIterator[bytes]) -> int:
        """The status of the answer to a body that is sent as it is read; httpx2 would read it ahead."""
        status = 0

        async def receive() -> Message:
            return {"type": "http.request", "body": await anext(parts), "more_body": True}

        async def send(message: Message) -> None:
            nonlocal status
            status = message.get("status", status)

        headers = [(b"authorization", f"Bearer {BOOTSTRAP_KEY}".encode()), (b"transfer-encoding", b"chunked")]
        scope = {"type": "http", "method": "POST", "path": path, "raw_path": path.encode(), "query_string": b""}
        connection = {"headers": headers, "client": ("127.0.0.1", 1), "server": ("cdm.test", 80), "scheme": "http"}
        await self.served({**scope, **connection, "http_version": "1.1", "root_path": ""}, receive, send)
        return status

    async def new_key(self, *scopes: str, **fields: Any) -> str:
        """The secret of a new API key."""
        response = await self.api.post("/v1/api-keys", json={"scopes": scopes, **fields})
        assert response.status_code == 201, response.text
        return str(response.json()["key"])

    async def audit(self, **filters: str) -> list[dict[str, Any]]:
        """All rows, newest first."""
        return list((await self.api.get("/v1/audit", params={"limit": 200, **filters})).json()["data"])


@asynccontextmanager
async def gate(
    database_url: str,
    *,
    identity_provider: IdentityProvider | None = None,
    limits: Requests = AMPLE,
    collect: Sequence[CollectMetrics] = (),
) -> AsyncIterator[Gate]:
    clock, telemetry, app = ManualClock(), Telemetry(), DescribedApp()
    prepare(database_url)
    install_problems(app)
    app.include_router(keys_router)
    app.include_router(telemetry.router())
    async with open_database(database_url) as database:
        keys = Keys(store=KeyStore(database), clock=clock)
        await keys.store.ensure_default_project(now=clock())
        authenticator = Authenticator(
            database, bootstrap_key=SecretStr(BOOTSTRAP_KEY), identity_provider=identity_provider, clock=clock
        )
        state = {"database": database, "keys": keys, "authenticator": authenticator, "collect_metrics": collect}

        async def with_state(scope: Any, receive: Any, send: Any) -> None:
            await app({**scope, "state": dict(state)}, receive, send)

        transport = httpx2.ASGITransport(with_state)
        headers = {"Authorization": f"Bearer {BOOTSTRAP_KEY}"}
        async with httpx2.AsyncClient(transport=transport, base_url="http://cdm.test", headers=headers) as api:
            opened = Gate(app, with_state, api, database, clock, telemetry, state)
            _add_things(opened)
            install_middleware(
                app,
                clock=clock,
                telemetry=telemetry,
                tracing=None,
                limits=limits,
            )
            yield opened


def _add_things(opened: Gate) -> None:
    @opened.app.post("/v1/things", status_code=201)
    async def make(
        body: Thing, writer: Writer, requester: CurrentRequester, ulid: ReservedUlid, response: Response
    ) -> dict[str, Any]:
        thing = f"thing_{ulid}" if ulid else new_id("thing", at=opened.clock())
        is_new = thing not in opened.made
        opened.made.append(thing)
        if is_new:
            async with opened.database.writing() as connection:
                entry = requester.entry("thing.make", at=opened.clock(), target=thing, status=201, after=body.name)
                await record_audit(connection, entry)
        if body.breaks:
            raise RuntimeError("broken after the commit")
        response.status_code = body.fails or 201
        response.headers["Location"] = f"/v1/things/{thing}"
        response.headers["ETag"] = '"1"'
        return {"id": thing, "name": body.name, "project": writer.project}

    @opened.app.get("/v1/things/{name}")
    async def show(name: str, reader: Reader) -> dict[str, Any]:
        return {"name": name, "by": reader.id, "project": reader.project}
