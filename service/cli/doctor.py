"""`cdm doctor`: is the service well, and if not, what mends it?"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import typer

from service.cli.connection import Service, key_source, service_of
from service.cli.errors import CommandFailed
from service.cli.hints import command
from service.cli.options import AsJson, Home, Key, Project, Url
from service.cli.output import tell
from service.cli.text import table
from service.client import (
    AuthenticationFailed,
    Client,
    ClientError,
    NotFound,
    PermissionDenied,
    RateLimited,
    ServiceUnreachable,
)
from service.client.client import API_VERSION

_PATIENCE_SECONDS = 10.0  # the service itself waits up to five for what it needs

# By name in /readyz; `log` is where the part of this machine's stack writes.
_MENDS = {
    "database": ("api", "see that its disk has room and can be written, or that Postgres runs and admits it"),
    "object_store": (
        "s3",
        "see that the S3 server runs, has the bucket, and admits the service's AWS_* keys; of another "
        "installation: set CDM_STORE_URL to the store of the database's jobs",
    ),
    "ray": (
        "ray",
        "see that Ray's head runs and takes submissions; jobs wait until it does, and {queue} says what is wrong",
    ),
    "mlflow": ("mlflow", "see that the MLflow server runs; jobs go on without it and hand in their curves later"),
}


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at. `mend` is what to do if it is not well."""

    name: str
    ok: bool
    detail: str
    mend: str | None = None


def doctor(
    url: Url = None, key: Key = None, project: Project = None, home: Home = None, as_json: AsJson = False
) -> None:
    """Find out what is wrong with the service, and what mends it.

    Exit code 0: all is well, 1: not.
    """
    findings = list(_findings(url, key, project, home))
    ready = all(finding.ok for finding in findings)
    rows = [(finding.name, "ok" if finding.ok else "NOT OK", _words(finding)) for finding in findings]
    tell({"ready": ready, "checks": list(map(asdict, findings))}, table(rows), as_json=as_json)
    if not ready:
        raise typer.Exit(1)


def _words(finding: Finding) -> str:
    words = f"{finding.detail}: {finding.mend}" if finding.mend else finding.detail
    return " ".join(words.split())


def _findings(url: str | None, key: str | None, project: str | None, home: Path | None) -> Iterator[Finding]:
    try:
        service = service_of(url, key, home)
    except CommandFailed as error:
        what, _, mend = str(error).partition(": ")
        yield Finding("service", False, what, mend)
        return
    patience = _PATIENCE_SECONDS
    with Client(service.url, service.key, project=project, max_retries=0, timeout_seconds=patience) as client:
        try:
            yield from _dependencies(client, service)
            yield _version(client)
            yield _key(client, service)
        except ServiceUnreachable:
            yield _unreachable(service)
        except ClientError as error:
            yield Finding("service", False, str(error), "check --url")


def _unreachable(service: Service) -> Finding:
    mend = "check --url, the network between, and that the service runs there"
    if service.folder:
        mend = f"start it with {command('up')}, or see {service.folder.log('api')}"
    return Finding("service", False, f"no answer from {service.url}", mend)


def _dependencies(client: Client, service: Service) -> Iterator[Finding]:
    readiness = client.readiness()
    yield Finding("service", True, f"answers at {service.url}")
    for name, found in readiness.dependencies.items():
        part, mend = _MENDS.get(name, ("api", "see the log of the service"))
        mend = mend.format(queue=command("queue"))
        if service.folder:
            mend = f"{mend}; its log: {service.folder.log(part)}"
        yield Finding(name, found.ready, found.detail or "answers", None if found.ready else mend)


def _version(client: Client) -> Finding:
    found = client.api_version()
    if found == API_VERSION:
        return Finding("version", True, f"both speak version {found} of the interface")
    detail = f"the service speaks version {found} of the interface, this command {API_VERSION}"
    return Finding("version", False, detail, "install the release of cdm-train that the service has")


def _key(client: Client, service: Service) -> Finding:
    try:
        client.queue()
    except PermissionDenied as error:
        return Finding("key", False, str(error), f"ask an admin for a key that may ({command('keys create')})")
    except AuthenticationFailed as error:
        return Finding("key", False, f"{error}{key_source(service)}", "give another with --key or CDM_API_KEY")
    except NotFound as error:  # of the project
        return Finding("key", False, str(error), "name another with --project, or none")
    except RateLimited as error:
        return Finding("key", False, str(error), f"wait {error.retry_after or 60:.0f} s")
    return Finding("key", True, "is good")
