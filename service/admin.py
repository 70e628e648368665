"""`python -m service.admin`: what an operator does beside the running service, with its CDM_... settings.

`migrate` brings the database up to date, for deployments that do so before they start new replicas. `backup` copies
SQLite's file beside the running service. `restore` puts such a copy back where there is no database, and rebuilds.
`rebuild` writes down what the object store knows of jobs and the database does not: after that was lost, or an older
one was put back. It is for a stopped service.
"""

import argparse
import asyncio
import sys
from pathlib import Path

from service.clock import utc_now
from service.database import backup, open_database
from service.environment import SettingsRefused, settings_from_environment
from service.errors import BackupRefused, DatabaseInUse, ServiceError
from service.jobs.objects import JobObjects
from service.jobs.rebuild import rebuild
from service.jobs.store import JobStore
from service.settings import Settings
from service.web.logs import configure_logging
from workers.storage import open_store


def main() -> int:
    """0 = done, 1 = not, for the reason on standard error, 2 = settings are wrong, 3 = done but for some jobs."""
    parser = argparse.ArgumentParser(prog="python -m service.admin", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    commands = parser.add_subparsers(dest="command", required=True)
    for name in ("migrate", "rebuild"):
        commands.add_parser(name)
    for name in ("backup", "restore"):
        commands.add_parser(name).add_argument("file", type=Path)
    given = parser.parse_args()
    configure_logging()
    try:
        settings = settings_from_environment()
    except SettingsRefused as error:
        return _fail(str(error), code=2)
    try:
        if given.command == "migrate":
            return asyncio.run(_migrate(settings))
        if given.command == "backup":
            return _backup(settings, given.file)
        if given.command == "restore":
            backup.put_back(settings.database_url, given.file)
        return asyncio.run(_rebuild(settings))
    except (BackupRefused, DatabaseInUse, ServiceError) as error:
        return _fail(str(error), code=1)


def _fail(reason: str, *, code: int) -> int:
    sys.stderr.write(f"error: {reason}\n")
    return code


async def _migrate(settings: Settings) -> int:
    async with open_database(settings.database_url):
        sys.stdout.write("the database is up to date\n")
    return 0


def _backup(settings: Settings, file: Path) -> int:
    backup.save(settings.database_url, file)
    sys.stdout.write(f"copied the database to {file}; now copy {settings.store_url}\n")
    return 0


async def _rebuild(settings: Settings) -> int:
    objects = JobObjects(open_store(settings.store_url), url=settings.store_url)
    async with open_database(settings.database_url) as database:
        restored, unreadable = await rebuild(JobStore(database), objects, now=utc_now())
    sys.stdout.write(f"restored {restored} jobs from {settings.store_url}\n")
    for job_id in unreadable:
        sys.stderr.write(f"error: the record of {job_id} cannot be read\n")
    return 3 if unreadable else 0


if __name__ == "__main__":
    sys.exit(main())
