"""`python -m service.admin`: what an operator does beside the running service, with its CDM_... settings.

`migrate` brings the database up to date, for deployments that do so before they start new replicas. `rebuild` writes
down every job of the object store that the database lacks: after a loss, start with an empty database.
"""

import argparse
import asyncio
import sys

from service.clock import utc_now
from service.database import open_database
from service.errors import DatabaseInUse, ServiceError
from service.jobs.objects import JobObjects
from service.jobs.rebuild import rebuild
from service.jobs.store import JobStore
from service.settings import Settings
from service.web.logs import configure_logging
from workers.storage import open_store


def main() -> int:
    """0 = done, 1 = not, for the reason on standard error, 3 = done but for some jobs."""
    parser = argparse.ArgumentParser(prog="python -m service.admin", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("command", choices=["migrate", "rebuild"])
    command = parser.parse_args().command
    configure_logging()
    try:
        return asyncio.run(_migrate() if command == "migrate" else _rebuild())
    except (DatabaseInUse, ServiceError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 1


async def _migrate() -> int:
    async with open_database(Settings().database_url):
        sys.stdout.write("the database is up to date\n")
    return 0


async def _rebuild() -> int:
    settings = Settings()
    objects = JobObjects(open_store(settings.store_url), url=settings.store_url)
    async with open_database(settings.database_url) as database:
        restored, unreadable = await rebuild(JobStore(database), objects, now=utc_now())
    sys.stdout.write(f"restored {restored} jobs from {settings.store_url}\n")
    for job_id in unreadable:
        sys.stderr.write(f"error: the record of {job_id} cannot be read\n")
    return 3 if unreadable else 0


if __name__ == "__main__":
    sys.exit(main())
