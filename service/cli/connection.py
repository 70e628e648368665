"""Which service a command talks to: the one it is told, else the stack of this machine."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from service.cli.errors import CommandFailed
from service.client import Client, Gone, NotFound, ServiceUnreachable
from service.embedded.documents import Connection
from service.embedded.folder import Folder
from service.jobs.views import Job
from workers.contract.spec import TrainSpec


@contextmanager
def connected(url: str | None, key: str | None, home: Path | None, **options: Any) -> Iterator[Client]:
    """A client of that service, with these options; what cannot be reached ends in what to do about it."""
    if url is not None:
        if key is None:
            raise CommandFailed(f"there is no key for {url}: give --key, or set CDM_API_KEY")
        with Client(url, key, **options) as client:
            yield client
        return
    connection = stack_of(home)
    try:
        with Client(connection.url, key or connection.api_key, **options) as client:
            yield client
    except ServiceUnreachable:
        raise CommandFailed(f"the stack at {connection.url} does not answer: start it with `cdm up`") from None


def stack_of(home: Path | None) -> Connection:
    """Where the API of this machine's stack is, whether it runs or not."""
    folder = Folder.at(home)
    connection = Connection.read(folder.connection)
    if connection is None:
        raise CommandFailed(
            f"there is no stack in {folder.root}: start one with `cdm up`, or name a service with --url and --key"
        )
    return connection


def find(client: Client, name: str, *, kind: str | None = None) -> Job:
    """The job with this id, or the only one whose id begins so, or the newest (of this kind) for `latest`."""
    if name == "latest":
        newest = next(client.jobs.list(kind=kind, limit=1), None)
        if newest is None:
            raise CommandFailed("there are no jobs yet: submit one with `cdm submit fashion16`")
        return newest
    try:
        return client.jobs.retrieve(name)
    except Gone:  # a whole id, and it says since when
        raise
    except NotFound:
        return _only(name, [job for job in client.jobs.list() if _begins(job, name)])


def find_training(client: Client, name: str) -> tuple[Job, TrainSpec]:
    """The job of this name and its document; any other kind is refused."""
    found = find(client, name, kind="train")
    if found.spec.kind != "train":
        raise CommandFailed(f"{found.id} is a job of kind {found.spec.kind}: only trainings have checkpoints")
    return found, found.spec


def _begins(job: Job, name: str) -> bool:
    return job.id.lower().removeprefix("job_").startswith(name.lower().removeprefix("job_"))


def _only(name: str, jobs: list[Job]) -> Job:
    if not jobs:
        raise CommandFailed(f"there is no job {name}: `cdm jobs` lists them")
    if len(jobs) > 1:
        raise CommandFailed(f"{len(jobs)} jobs begin with {name}: give more of the id, `cdm jobs` lists them")
    return jobs[0]
