"""`cdm keys`, `cdm projects` and `cdm audit`: for admins."""

from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import typer

from service.cli import values
from service.cli.errors import CommandFailed, CommandMisused
from service.cli.hints import command
from service.cli.options import AsJson, ListsByDefault, on_service
from service.cli.output import first, tell
from service.cli.text import local, table
from service.client import AnswerLost, Client
from service.client.administration import Quotas
from service.keys.views import ApiKey, Project
from service.priorities import Priority
from service.web.views import Scope

_LISTING: Any = {"cls": ListsByDefault, "rich_markup_mode": None}
keys = typer.Typer(help="API keys: make and revoke them. Without a command, a list.", **_LISTING)
projects = typer.Typer(help="Projects, and what their jobs may have. Without a command, a list.", **_LISTING)

_DEFAULT_SCOPES = [Scope.READ, Scope.WRITE]
ProjectName = Annotated[str, typer.Argument(metavar="NAME", help="Lowercase letters, digits and hyphens.")]
MaxWorkers = Annotated[str | None, typer.Option(metavar="N|none", help="Of its jobs on the engine, together.")]
MaxJobs = Annotated[str | None, typer.Option(metavar="N|none", help="On the engine at a time.")]
MaxPriority = Annotated[Priority | None, typer.Option(help="The highest that its jobs may have.")]


@keys.command("create")
@on_service
def create_key(
    client: Client,
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="For people.")] = None,
    scope: Annotated[list[Scope], typer.Option(help="May be given several times; default: read and write jobs.")] = [],
    of: Annotated[str | None, typer.Option("--for", metavar="PROJECT", help="Default: yours.")] = None,
    expires: Annotated[str | None, typer.Option(metavar="90d", help="From now; default: never.")] = None,
    as_json: AsJson = False,
) -> None:
    """Make a key, and show it for the only time."""
    lifetime = None if expires is None else timedelta(seconds=values.seconds(expires))
    expires_at = None if lifetime is None else datetime.now(UTC) + lifetime
    try:
        made = client.api_keys.create(scopes=scope or _DEFAULT_SCOPES, name=name, project=of, expires_at=expires_at)
    except AnswerLost:
        raise CommandFailed(
            f"a key was made, but it got lost on the way: {command('keys revoke')} it, and make another"
        ) from None
    words = f"{made.key}\n({made.id} of the project {made.project}; keep it: it is not shown again)"
    tell(made, words, as_json=as_json)


@keys.command("list")
@on_service
def list_keys(
    client: Client,
    of: Annotated[str | None, typer.Option("--for", metavar="PROJECT", help="Default: of all projects.")] = None,
    revoked: Annotated[bool, typer.Option("--revoked", help="With those that were revoked.")] = False,
    as_json: AsJson = False,
) -> None:
    """List keys, newest first. None is shown in full."""
    found = list(client.api_keys.list(project=of, revoked=revoked or None))
    head = ("KEY", "BEGINS", "NAME", "PROJECT", "SCOPES", "CREATED", "LAST USED", "STATE")
    tell(found, table([head, *map(_key_row, found)]) if found else "no keys", as_json=as_json)


@keys.command("revoke")
@on_service
def revoke_key(
    client: Client,
    key_id: Annotated[str, typer.Argument(metavar="KEY", help="Its id, as listed: key_...")],
    as_json: AsJson = False,
) -> None:
    """Take a key back. It stops working within seconds."""
    client.api_keys.revoke(key_id)
    tell({"revoked": key_id}, f"revoked {key_id}", as_json=as_json)


@projects.command("create")
@on_service
def create_project(
    client: Client,
    name: ProjectName,
    max_workers: MaxWorkers = None,
    max_jobs: MaxJobs = None,
    max_priority: MaxPriority = None,
    as_json: AsJson = False,
) -> None:
    """Make a project. It cannot be renamed or removed."""
    made = client.projects.create(name, **_quotas(max_workers, max_jobs, max_priority))
    tell(made, f"created {_project_words(made)}", as_json=as_json)


@projects.command("list")
@on_service
def list_projects(client: Client, as_json: AsJson = False) -> None:
    """List projects by name."""
    found = list(client.projects.list())
    head = ("PROJECT", "MAX WORKERS", "MAX JOBS", "MAX PRIORITY", "CREATED")
    rows = (
        (one.name, _cell(one.max_workers), _cell(one.max_jobs), one.max_priority, local(one.created_at))
        for one in found
    )
    tell(found, table([head, *rows]), as_json=as_json)


@projects.command("set")
@on_service
def set_project(
    client: Client,
    name: ProjectName,
    max_workers: MaxWorkers = None,
    max_jobs: MaxJobs = None,
    max_priority: MaxPriority = None,
    as_json: AsJson = False,
) -> None:
    """Change what a project's jobs may have.

    `none` takes a limit away. Jobs that have a higher priority keep it.
    """
    quotas = _quotas(max_workers, max_jobs, max_priority)
    if not quotas:
        raise CommandMisused("say what is to change: --max-workers, --max-jobs or --max-priority")
    tell(changed := client.projects.update(name, **quotas), _project_words(changed), as_json=as_json)


@on_service
def audit(
    client: Client,
    actor: Annotated[str | None, typer.Option(metavar="ID", help="Only what this one did.")] = None,
    target: Annotated[str | None, typer.Option(metavar="ID", help="Only what was done to this one.")] = None,
    days: Annotated[int | None, typer.Option(min=1, max=36_500, help="Look back so far.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="At most so many.")] = 50,
    as_json: AsJson = False,
) -> None:
    """List who changed what, newest first."""
    since = datetime.now(UTC) - timedelta(days=days) if days else None
    found, has_more = first(client.audit(actor=actor, target=target, since=since, limit=limit + 1), limit)
    head = ("WHEN", "WHO", "PROJECT", "WHAT", "OF", "REQUEST")
    rows = (
        (local(one.at), one.actor, one.project, one.action, one.target or one.path or "", one.request_id or "")
        for one in found
    )
    tell(found, table([head, *rows]) if found else "nothing was changed", as_json=as_json, has_more=has_more)


def _key_row(key: ApiKey) -> tuple[str, ...]:
    expired = key.expires_at is not None and key.expires_at <= datetime.now(UTC)
    state = "revoked" if key.revoked_at else "expired" if expired else "good"
    scopes = ",".join(key.scopes)
    return (
        *(key.id, key.prefix, key.name or "", key.project, scopes),
        *(local(key.created_at), local(key.last_used_at) or "never", state),
    )


def _quotas(max_workers: str | None, max_jobs: str | None, max_priority: Priority | None) -> Quotas:
    quotas = Quotas()
    if max_workers is not None:
        quotas["max_workers"] = _number(max_workers)
    if max_jobs is not None:
        quotas["max_jobs"] = _number(max_jobs)
    if max_priority is not None:
        quotas["max_priority"] = max_priority
    return quotas


def _number(text: str) -> int | None:
    if text != "none" and not text.isdecimal():
        raise CommandMisused(f"{text!r} is no limit: give a number, or none")
    return None if text == "none" else int(text)


def _project_words(project: Project) -> str:
    limits = f"{_limit(project.max_workers)} workers, {_limit(project.max_jobs)} jobs at a time"
    return f"{project.name}: {limits}, priority up to {project.max_priority}"


def _cell(limit: int | None) -> str:
    """As the options write it."""
    return "none" if limit is None else str(limit)


def _limit(limit: int | None) -> str:
    return "any number of" if limit is None else str(limit)
