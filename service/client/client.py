"""The door to the service."""

import os
from collections.abc import Iterator
from datetime import datetime
from typing import Self

import httpx2

from service.client.administration import ApiKeys, Projects
from service.client.connection import Connection
from service.client.datasets import Datasets
from service.client.jobs import Jobs
from service.client.pages import rows
from service.client.paths import path_to
from service.client.retries import Policy, Timing
from service.client.service import service_of
from service.client.uploads import Uploads
from service.client.webhooks import Webhooks
from service.jobs.planning_views import PresetList, Queue, QueueEntry, Usage
from service.keys.views import AuditPage, AuditRow
from service.web.views import Readiness, View
from workers.contract.spec import TrainSpec

API_VERSION = "1"  # of the interface that this SDK was made for


class _Info(View):
    version: str


class _Description(View):
    info: _Info


class Client:
    """A connection to one service. Close it, or use it in a `with` statement.

    Without an address it is the service of `CDM_URL`, else this machine's stack; without a key that of `CDM_API_KEY`,
    else the stack's. `project`, for admins, is the one to work in instead of the key's own ("" is that); by default
    that of `CDM_PROJECT`. A request that fails for a reason that may pass is sent again up to `max_retries` times,
    within `timeout_seconds` in all. `transport` replaces the network, for tests: `httpx2.MockTransport(handler)`;
    `timing` replaces the clock.

    Raises:
        ClientError: no address or no key is given, and none is found.
    """

    def __init__(
        self,
        base_url: str | None = None,
        api_key: str | None = None,
        *,
        project: str | None = None,
        max_retries: int = 3,
        timeout_seconds: float = 60.0,
        transport: httpx2.BaseTransport | None = None,
        timing: Timing = Timing(),  # noqa: B008 (frozen)
    ) -> None:
        policy = Policy(max_retries=max_retries, total_seconds=timeout_seconds)
        url, key = service_of(base_url, api_key)
        project = (os.environ.get("CDM_PROJECT") or None) if project is None else project
        self._connection = Connection(url, key, project=project, policy=policy, timing=timing, transport=transport)
        self.jobs = Jobs(self._connection)
        self.api_keys = ApiKeys(self._connection)
        self.projects = Projects(self._connection)
        self.datasets = Datasets(self._connection)
        self.uploads = Uploads(self._connection)
        self.webhooks = Webhooks(self._connection)

    def presets(self) -> dict[str, TrainSpec]:
        """Complete job documents to start from, by name."""
        return {preset.name: preset.spec for preset in self._connection.get(PresetList, path_to("presets")).data}

    def queue(self, *, all_projects: bool | None = None) -> tuple[QueueEntry, ...]:
        """The jobs of the project that wait, in their order, and why; positions count those of all projects.

        With `all_projects`, for admins, the jobs of all.
        """
        return self._connection.get(Queue, path_to("queue"), all_projects=all_projects).data

    def usage(
        self, *, since: datetime | None = None, until: datetime | None = None, all_projects: bool | None = None
    ) -> Usage:
        """Who has had how much of the cluster, by default in the last 30 days; for admins, of all projects."""
        begin, end = _written(since), _written(until)
        return self._connection.get(Usage, path_to("usage"), since=begin, until=end, all_projects=all_projects)

    def audit(
        self,
        *,
        actor: str | None = None,
        project: str | None = None,
        target: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        limit: int | None = None,
    ) -> Iterator[AuditRow]:
        """Who changed what, newest first, for admins. `target` is an id: of a job, a key, a project."""
        wanted = {"actor": actor, "project": project, "target": target}
        begin, end = _written(since), _written(until)
        return rows(self._connection, AuditPage, path_to("audit"), limit=limit, since=begin, until=end, **wanted)

    def readiness(self) -> Readiness:
        """What the service needs, and whether it answers. Not being ready is an answer here, not an error."""
        return self._connection.get(Readiness, "/readyz", accept_status=503)

    def api_version(self) -> str:
        """Of the interface that the service has; `API_VERSION` is what this SDK expects."""
        return self._connection.get(_Description, "/openapi.json").info.version

    def close(self) -> None:
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        project = f", project={self._connection.project!r}" if self._connection.project else ""
        return f"Client({self._connection.address!r}, api_key='***'{project})"


def _written(at: datetime | None) -> str | None:
    return at.isoformat() if at else None
