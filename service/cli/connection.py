"""Which service a command talks to: the one it is told, else the stack of this machine."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from service.cli.errors import CommandFailed
from service.cli.hints import command
from service.client import Client, Gone, NotFound, ServiceUnreachable
from service.embedded.documents import Connection
from service.embedded.folder import Folder
from service.jobs.views import COMPARES, CONTROL_OF, OF_JOB, Job
from workers.contract.spec import TrainSpec

_FOLLOWING = {CONTROL_OF, OF_JOB, COMPARES}  # labels of what follows another job by itself


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
        raise CommandFailed(f"the stack at {connection.url} does not answer: start it with {command('up')}") from None


def stack_of(home: Path | None) -> Connection:
    """Where the API of this machine's stack is, whether it runs or not."""
    folder = Folder.at(home)
    connection = Connection.read(folder.connection)
    if connection is None:
        start = f"start one with {command('up')}"
        raise CommandFailed(f"there is no stack in {folder.root}: {start}, or name a service with --url and --key")
    return connection


def find(client: Client, name: str, *, kind: str | None = None, archived: bool = False) -> Job:
    """The job with this id, or the only one whose id begins so, or the newest (of this kind) for `latest`.

    The beginning of an id is looked for among archived jobs second. With `archived`, both are of archived jobs alone.
    """
    if name == "latest":
        return _newest(client.jobs.list(kind=kind, archived=archived or None), archived=archived)
    try:
        return client.jobs.retrieve(name)
    except Gone:  # a whole id, and it says since when
        raise
    except NotFound:
        usual = [] if archived else _beginning(client.jobs.list(), name)
        return _only(name, usual or _beginning(client.jobs.list(archived=True), name), archived=archived)


def find_training(client: Client, name: str) -> tuple[Job, TrainSpec]:
    """The job of this name and its document; any other kind is refused."""
    found = find(client, name, kind="train")
    if found.spec.kind != "train":
        raise CommandFailed(f"{found.id} is a job of kind {found.spec.kind}: only trainings have checkpoints")
    return found, found.spec


def _newest(jobs: Iterator[Job], *, archived: bool) -> Job:
    """That somebody has submitted: what the service makes beside a training, or after it, is nobody's `latest`."""
    newest = next((job for job in jobs if not _FOLLOWING & job.labels.keys()), None)
    if newest is None:
        no_jobs = f"there are no jobs yet: submit one with {command('submit fashion16')}"
        raise CommandFailed("no jobs are archived" if archived else no_jobs)
    return newest


def _beginning(jobs: Iterable[Job], name: str) -> list[Job]:
    start = _without_mark(name)
    return [job for job in jobs if _without_mark(job.id).startswith(start)]


def _without_mark(job_id: str) -> str:
    return job_id.lower().removeprefix("job_")


def _only(name: str, jobs: list[Job], *, archived: bool) -> Job:
    lists = command("jobs --archived" if archived else "jobs")
    if not jobs:
        raise CommandFailed(f"there is no {'archived ' if archived else ''}job {name}: {lists} lists them")
    if len(jobs) > 1:
        raise CommandFailed(f"{len(jobs)} jobs begin with {name}: give more of the id, {lists} lists them")
    return jobs[0]
