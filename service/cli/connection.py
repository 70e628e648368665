"""Which service a command talks to: the one it is told, else the stack of this machine."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any

from service.cli.errors import CommandFailed, CommandMisused
from service.cli.hints import command
from service.cli.id_prefixes import ENOUGH, only
from service.client import (
    AuthenticationFailed,
    Client,
    Gone,
    InvalidRequest,
    NotFound,
    PermissionDenied,
    ServiceUnreachable,
)
from service.embedded.documents import Connection, Keys, Run
from service.embedded.folder import Folder
from service.jobs.views import COMPARES, CONTROL_OF, OF_JOB, Job
from workers.contract.spec import TrainSpec

_FOLLOWING = {CONTROL_OF, OF_JOB, COMPARES}  # labels of what follows another job by itself


@dataclass(frozen=True, slots=True)
class Service:
    """Where it is; `folder` if it is this machine's stack."""

    url: str
    key: str
    folder: Folder | None


def service_of(url: str | None, key: str | None, home: Path | None) -> Service:
    """The one that is told, else the stack of this machine, whether it runs or not."""
    if is_stack(url, home):
        connection = stack_of(home)
        return Service(connection.url, key or connection.api_key, Folder.at(home))
    if home is not None:
        raise CommandMisused(f"--home {home} is another service than {url}, of --url or CDM_URL: leave one of them out")
    if not url:
        raise CommandMisused("--url is empty: give an address such as http://localhost:8400")
    if not url.startswith(("http://", "https://")):
        raise CommandMisused(f"--url {url} is no address: give http://{url}, or https://")
    if key is None:
        raise CommandMisused(f"there is no key for {url}: give --key, or set CDM_API_KEY")
    return Service(url, key, None)


def is_stack(url: str | None, home: Path | None) -> bool:
    """Whether this machine's stack is meant, by no address or by its own: `cdm env` names it so."""
    stack = Connection.read(Folder.at(home).connection)
    return url is None or (stack is not None and url == stack.url)


@contextmanager
def connected(url: str | None, key: str | None, home: Path | None, **options: Any) -> Iterator[Client]:
    """A client of that service, with these options; what cannot be reached ends in what to do about it."""
    service = service_of(url, key, home)
    try:
        with Client(service.url, service.key, **options) as client:
            yield client
    except ServiceUnreachable:
        if service.folder is None:
            raise
        raise CommandFailed(f"the stack at {service.url} does not answer: start it with {command('up')}") from None
    except PermissionDenied:
        raise
    except AuthenticationFailed as error:
        raise CommandFailed(f"{error}{key_source(service)}") from None


def key_source(service: Service) -> str:
    """Where a key that the stack of this machine does not know came from, if nobody gave it here."""
    if service.folder is None or service.key != os.environ.get("CDM_API_KEY"):
        return ""
    return "; the key is that of CDM_API_KEY: unset it, and the stack's own is taken"


def stack_of(home: Path | None, *, instead: str = "name a service with --url and --key") -> Connection:
    """Where the API of this machine's stack is, whether it runs or not; `instead`: what else to do if there is none."""
    folder = Folder.at(home)
    connection = Connection.read(folder.connection)
    if connection is None:
        raise CommandFailed(f"there is no stack in {folder.root}: start one with {command('up')}, or {instead}")
    return connection


def state_of(home: Path | None) -> tuple[Folder, Run, Keys]:
    """What is kept of this machine's stack, whether it runs or not."""
    folder = Folder.at(home)
    run, keys = Run.read(folder.run), Keys.read(folder.keys)
    if run is None or keys is None:
        raise CommandFailed(f"there is no stack in {folder.root}: name its folder with --home")
    return folder, run, keys


def find(client: Client, name: str, *, kind: str | None = None, archived: bool = False) -> Job:
    """The job with this id, or the only one whose id begins so or that has this name, or the newest for `latest`.

    That is one's own newest of this `kind`; whoever has submitted none gets the project's. Beginnings and names are
    looked for among archived jobs second. With `archived`, all are of archived jobs alone.
    """
    if name == "latest":
        of_whom = (client.jobs.list(kind=kind, archived=archived or None, created_by=each) for each in ("me", None))
        return _newest(chain(*of_whom), archived=archived)
    try:
        return client.jobs.retrieve(name)
    except Gone:  # a whole id, and it says since when
        raise
    except (NotFound, InvalidRequest):  # names may have what ids have not
        jobs = [] if archived else _known_as(client, name, archived=False)
        jobs = jobs or _known_as(client, name, archived=True)
        what, how = "archived jobs" if archived else "jobs", "are called" if _is_name(name, jobs) else "begin with"
        return only(jobs, name, what=what, lists=_listing(archived=archived), how=how)


def find_training(client: Client, name: str) -> tuple[Job, TrainSpec]:
    """The job of this name and its document; any other kind is refused."""
    found = find(client, name, kind="train")
    if found.spec.kind != "train":
        raise CommandFailed(f"{found.id} is a job of kind {found.spec.kind}: only trainings have checkpoints")
    return found, found.spec


def find_comparison(client: Client, training: Job) -> Job | None:
    """That with its control, once it is submitted."""
    found = (client.jobs.list(labels={COMPARES: training.id}, kind="compare", archived=each) for each in (None, True))
    return next(chain(*found), None)


def _newest(jobs: Iterator[Job], *, archived: bool) -> Job:
    """That somebody has submitted: what the service makes beside a training, or after it, is nobody's `latest`."""
    newest = next((job for job in jobs if not _FOLLOWING & job.labels.keys()), None)
    if newest is None:
        no_jobs = f"there are no jobs yet: submit one with {command('submit fashion16')}"
        raise CommandFailed("no jobs are archived" if archived else no_jobs)
    return newest


def _known_as(client: Client, name: str, *, archived: bool) -> list[Job]:
    """By the beginning of their ids, else by their names; some of them, if there are very many.

    What the service sends is looked through again: one of an older release knows neither filter, and sends all.
    """
    of_these = archived or None
    beginning = f"job_{name.lower().removeprefix('job_').upper()}"
    by_id = client.jobs.list(archived=of_these, id_prefix=beginning)
    by_name = client.jobs.list(archived=of_these, name=name)
    found = _some(job for job in by_id if job.id.startswith(beginning))
    return found or _some(job for job in by_name if job.name == name)


def _some(jobs: Iterator[Job]) -> list[Job]:
    """As many as are counted; none where no job can be called so, or have such an id."""
    try:
        return list(islice(jobs, ENOUGH))
    except InvalidRequest:
        return []


def _is_name(name: str, jobs: Sequence[Job]) -> bool:
    return any(job.name == name for job in jobs)


def _listing(*, archived: bool) -> str:
    return "jobs --archived" if archived else "jobs"
