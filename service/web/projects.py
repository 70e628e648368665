"""Which projects there are, as far as a request has to know."""

from dataclasses import replace

from sqlalchemy import select

from service.database import Database
from service.database.tables import projects
from service.errors import Forbidden, ProjectNotFound
from service.web.principal import Principal
from service.web.views import Scope


class Projects:
    """Projects are never removed, so that one that was seen need not be looked up again."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._known: set[str] = set()

    async def exists(self, name: str) -> bool:
        if name not in self._known:
            async with self._database.reading() as connection:
                found = await connection.scalar(select(projects.c.name).where(projects.c.name == name))
            if found is None:
                return False
            self._known.add(name)
        return True

    async def admitted(self, principal: Principal, *, wanted: str | None) -> Principal:
        """The principal in the project that the header `Cdm-Project` names, or else in their own.

        Raises:
            Forbidden: if it is not theirs and they are no admin, or if their own does not exist.
            ProjectNotFound: if an admin names one that does not exist.
        """
        name = wanted or principal.project
        is_admin = principal.may(Scope.ADMIN)
        if name != principal.project and not is_admin:
            raise Forbidden(f"this key belongs to the project {principal.project}", required_scope=Scope.ADMIN)
        if not name.isprintable() or not await self.exists(name):
            if is_admin:
                raise ProjectNotFound(f"there is no project {name[:100]!r}: create it with POST /v1/projects")
            raise Forbidden(f"there is no project {name[:100]!r}: ask an admin to create it")
        return replace(principal, project=name)
