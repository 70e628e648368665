"""What admins ask: projects, the keys that open them, and who changed what."""

from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import TypedDict, Unpack

from service.client.connection import Connection
from service.client.pages import rows
from service.client.paths import path_to
from service.keys.views import ApiKey, ApiKeyPage, NewApiKey, Project, ProjectPage
from service.priorities import Priority
from service.web.views import Scope


class ApiKeys:
    """`client.api_keys`"""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def create(
        self,
        *,
        scopes: Iterable[Scope | str],
        name: str | None = None,
        project: str | None = None,
        expires_at: datetime | None = None,
        idempotency_key: str | None = None,
    ) -> NewApiKey:
        """A key for one project, by default the client's. Its secret, `key`, is shown this once.

        Raises:
            AnswerLost: it was created by a try whose answer got lost, and with it the secret: revoke it.
        """
        document = {"name": name, "project": project, "scopes": sorted(map(str, scopes))}
        document["expires_at"] = expires_at.isoformat() if expires_at else None
        return self._connection.post(NewApiKey, path_to("api-keys"), document, idempotency_key=idempotency_key)

    def retrieve(self, key_id: str) -> ApiKey:
        return self._connection.get(ApiKey, path_to("api-keys", key_id))

    def list(
        self, *, project: str | None = None, revoked: bool | None = None, limit: int | None = None
    ) -> Iterator[ApiKey]:
        """Keys, newest first; of all projects unless one is named, and with `revoked` those, too."""
        where = path_to("api-keys")
        return rows(self._connection, ApiKeyPage, where, limit=limit, project=project, revoked=revoked)

    def revoke(self, key_id: str) -> None:
        """It stops working within seconds. Doing it twice is harmless."""
        self._connection.delete(path_to("api-keys", key_id))


class Quotas(TypedDict, total=False):
    """What a project's jobs may hold on the engine together (None = no limit), and the highest class they may have."""

    max_workers: int | None
    max_jobs: int | None
    max_priority: Priority | str


class Projects:
    """`client.projects`"""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def create(self, name: str, *, idempotency_key: str | None = None, **quotas: Unpack[Quotas]) -> Project:
        """Projects cannot be renamed or removed."""
        document = {"name": name, **quotas}
        return self._connection.post(Project, path_to("projects"), document, idempotency_key=idempotency_key)

    def retrieve(self, name: str) -> Project:
        return self._connection.get(Project, path_to("projects", name))

    def list(self, *, limit: int | None = None) -> Iterator[Project]:
        """All projects, by name."""
        return rows(self._connection, ProjectPage, path_to("projects"), limit=limit)

    def update(self, name: str, **quotas: Unpack[Quotas]) -> Project:
        """Set what is given. Jobs that have a higher priority keep it."""
        return self._connection.patch(Project, path_to("projects", name), dict(quotas))
