"""The door to the service."""

from typing import Self

import httpx2

from service.client.connection import Connection
from service.client.jobs import Jobs
from service.jobs.views import PresetList
from service.web.views import Readiness
from workers.contract.spec import TrainSpec


class Client:
    """A connection to one service. Close it, or use it in a `with` statement.

    `transport` replaces the network, for tests: `httpx2.MockTransport(handler)`.
    """

    def __init__(self, base_url: str, api_key: str, *, transport: httpx2.BaseTransport | None = None) -> None:
        self._connection = Connection(base_url, api_key, transport=transport)
        self.jobs = Jobs(self._connection)

    def presets(self) -> dict[str, TrainSpec]:
        """Complete job documents to start from, by name."""
        page = PresetList.model_validate_json(self._connection.get("/v1/presets"))
        return {preset.name: preset.spec for preset in page.data}

    def readiness(self) -> Readiness:
        """What the service needs, and whether it answers. Not being ready is an answer here, not an error."""
        return Readiness.model_validate_json(self._connection.get("/readyz", accept_status=503))

    def close(self) -> None:
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
