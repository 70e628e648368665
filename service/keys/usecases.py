"""What admins can do with projects and API keys. Every change is committed together with its audit row."""

from dataclasses import dataclass

from service.clock import Clock
from service.errors import ApiKeyNotFound, IdempotencyAnswerNotKept, InvalidRequest, ProjectExists, ProjectNotFound
from service.identifiers import new_id
from service.keys.store import KeyStore
from service.keys.views import ApiKey, ApiKeyCreate, NewApiKey, Project, ProjectChange, ProjectCreate
from service.web.api_keys import SHOWN_CHARACTERS, new_secret, sha256_of
from service.web.audit import Requester, record_audit
from workers.contract.document import Problem


@dataclass(frozen=True, slots=True, kw_only=True)
class Keys:
    """The use cases."""

    store: KeyStore
    clock: Clock

    async def create_project(self, request: ProjectCreate, *, requester: Requester) -> Project:
        """Make room for another group of jobs."""
        now = self.clock()
        project = Project(**request.model_dump(), created_at=now)
        async with self.store.database.writing() as connection:
            if not await self.store.add_project(connection, project):
                raise ProjectExists(f"there is a project {project.name} already")
            after = project.model_dump_json()
            entry = requester.entry("project.create", at=now, target=project.name, status=201, after=after)
            await record_audit(connection, entry)
        return project

    async def find_project(self, name: str) -> Project:
        async with self.store.database.reading() as connection:
            found = await self.store.project(connection, name)
        if found is None:
            raise ProjectNotFound(f"there is no project {name!r}")
        return found

    async def change_project(self, name: str, change: ProjectChange, *, requester: Requester) -> Project:
        """Set what is given. Jobs that have a higher priority keep it."""
        async with self.store.database.writing() as connection:
            found = await self.store.project(connection, name, for_change=True)
            if found is None:
                raise ProjectNotFound(f"there is no project {name!r}")
            changed = found.model_copy(update=change.model_dump(exclude_unset=True))
            if changed != found:
                await self.store.set_quotas(connection, changed)
                before, after = found.model_dump_json(), changed.model_dump_json()
                entry = requester.entry("project.change", at=self.clock(), target=name, before=before, after=after)
                await record_audit(connection, entry)
        return changed

    async def create_key(
        self, request: ApiKeyCreate, *, project: str, requester: Requester, reserved_ulid: str | None
    ) -> NewApiKey:
        """A new key and its secret. Repeated after a crash it makes no second one; the first one's secret is lost."""
        now = self.clock()
        if request.expires_at is not None and request.expires_at <= now:
            wrong = Problem("/expires_at", "not_in_future", f"must be after {now.isoformat(timespec='seconds')}")
            raise InvalidRequest("the key would never be good", problems=[wrong])
        secret = new_secret()
        key = NewApiKey(
            id=f"key_{reserved_ulid}" if reserved_ulid else new_id("key", at=now),
            name=request.name,
            project=request.project or project,
            prefix=secret[:SHOWN_CHARACTERS],
            scopes=tuple(sorted(request.scopes)),
            created_at=now,
            expires_at=request.expires_at,
            revoked_at=None,
            last_used_at=None,
            key=secret,
        )
        await self._add_key(key, requester=requester)
        return key

    async def _add_key(self, new: NewApiKey, *, requester: Requester) -> None:
        key = ApiKey.model_validate(new.model_dump(exclude={"key"}))
        async with self.store.database.writing() as connection:
            if await self.store.project(connection, key.project) is None:
                lacking = f"there is no project {key.project!r}"
                wrong = Problem("/project", "project_not_found", f"{lacking}: create it with POST /v1/projects")
                raise InvalidRequest(lacking, problems=[wrong])
            if not await self.store.add_key(connection, key, sha256=sha256_of(new.key)):
                raise IdempotencyAnswerNotKept(
                    "the key was created, and its secret is lost: revoke it and create another",
                    location=f"/v1/api-keys/{key.id}",
                )
            after = key.model_dump_json()
            entry = requester.entry("api_key.create", at=key.created_at, target=key.id, status=201, after=after)
            await record_audit(connection, entry)

    async def find_key(self, key_id: str) -> ApiKey:
        async with self.store.database.reading() as connection:
            found = await self.store.key(connection, key_id)
        if found is None:
            raise ApiKeyNotFound(f"there is no API key {key_id!r}")
        return found

    async def revoke_key(self, key_id: str, *, requester: Requester) -> None:
        """Within seconds nothing is opened by it any more. Revoking it again changes nothing."""
        now = self.clock()
        async with self.store.database.writing() as connection:
            found = await self.store.key(connection, key_id, for_change=True)
            if found is None:
                raise ApiKeyNotFound(f"there is no API key {key_id!r}")
            if found.revoked_at is None:
                await self.store.revoke(connection, key_id, at=now)
                before = found.model_dump_json()
                entry = requester.entry("api_key.revoke", at=now, target=key_id, status=204, before=before)
                await record_audit(connection, entry)
