"""An identity provider on a port of this machine, which publishes keys and signs whatever it is asked to."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event
from typing import Any

from joserfc import jwt
from joserfc.jwk import ECKey, Key, KeyParameters, RSAKey

from tests.support.answering import answering

AUDIENCE = "cdm-train"


@dataclass
class Issuer:
    """`requests` are the paths it was asked for; while it is `down`, all of them are 503.

    While `gate` is clear, it takes them and does not answer.
    """

    url: str
    keys: dict[str, Key] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)
    down: bool = False
    called: str | None = None  # the issuer that its discovery names; None: itself
    gate: Event = field(default_factory=Event)

    def add_key(self, name: str, kind: str = "RSA") -> None:
        parameters: KeyParameters = {"kid": name, "use": "sig", "alg": "RS256" if kind == "RSA" else "ES256"}
        self.keys[name] = (
            RSAKey.generate_key(2048, parameters) if kind == "RSA" else ECKey.generate_key("P-256", parameters)
        )

    def claims(self, now: datetime, **changes: Any) -> dict[str, Any]:
        """Those of a good token; a change to None leaves a claim out."""
        good = {"iss": self.url, "aud": AUDIENCE, "sub": "ada", "exp": int(now.timestamp()) + 300}
        good |= {"scope": "openid jobs:read", "cdm_project": "default"}
        return {name: value for name, value in {**good, **changes}.items() if value is not None}

    def token(
        self, now: datetime, *, key: str = "first", header: Mapping[str, Any] | None = None, **changes: Any
    ) -> str:
        algorithm = "RS256" if isinstance(self.keys[key], RSAKey) else "ES256"
        return jwt.encode({"alg": algorithm, "kid": key, **(header or {})}, self.claims(now, **changes), self.keys[key])

    def answer(self, path: str) -> dict[str, Any] | None:
        self.requests.append(path)
        if path == "/.well-known/openid-configuration":
            return {"issuer": self.called or self.url, "jwks_uri": f"{self.url}/keys"}
        return {"keys": [key.as_dict(private=False) for key in self.keys.values()]} if path == "/keys" else None


@contextmanager
def issuer() -> Iterator[Issuer]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            opened.gate.wait(30)
            document = None if opened.down else opened.answer(self.path)
            self.send_response(200 if document else 503)
            self.end_headers()
            self.wfile.write(json.dumps(document).encode())

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    opened = Issuer(f"http://127.0.0.1:{server.server_port}")
    opened.add_key("first")
    opened.gate.set()
    with answering(server):
        try:
            yield opened
        finally:
            opened.gate.set()
