"""What commands share: arguments and options, groups that list by default, and the service that a command works on."""

import inspect
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Annotated, Any, Concatenate, ParamSpec, cast

import typer
from typer.core import TyperGroup

from service.cli import completion
from service.cli.connection import connected
from service.cli.hints import remember
from service.client import Client
from service.jobs.views import Priority

Url = Annotated[
    str | None,
    typer.Option("--url", envvar="CDM_URL", callback=remember, help="The service; default: this machine's stack."),
]
Key = Annotated[str | None, typer.Option("--key", envvar="CDM_API_KEY", help="The API key of that service.")]
Project = Annotated[
    str | None,
    typer.Option(
        "--project", envvar="CDM_PROJECT", callback=remember, help="For admins: instead of the key's own project."
    ),
]
Home = Annotated[
    Path | None,
    typer.Option("--home", callback=remember, help="State folder of the stack; default: $CDM_HOME or ~/.cdm."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Answer in JSON.")]
JobName = Annotated[
    str,
    typer.Argument(
        metavar="JOB",
        help="A job's id, the beginning of one, its name if no other has that, or `latest`: your newest (the "
        "project's, if you have none) that was submitted and does not follow another; where checkpoints are asked for, "
        "your newest training.",
        autocompletion=completion.job_ids,
    ),
]
Changes = Annotated[
    list[str],
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Change a field, for example compute.workers=1; the value is YAML and replaces the whole field.",
    ),
]
Name = Annotated[str | None, typer.Option(help="For people; need not be unique.")]
LabelList = Annotated[list[str], typer.Option("--label", metavar="KEY=VALUE", help="May be given several times.")]
Urgency = Annotated[Priority | None, typer.Option(help="A higher class goes first, and makes lower ones give way.")]
EvaluateEvery = Annotated[
    int | None,
    typer.Option("--evaluate-every", metavar="IMAGES", min=1, help="Evaluate a training's checkpoints, so far apart."),
]
EvaluateList = Annotated[
    list[str],
    typer.Option(
        "--evaluate",
        metavar="KEY=VALUE",
        help="How they are evaluated, for example num_images=5000; without --evaluate-every, at every checkpoint.",
    ),
]
NoEvaluations = Annotated[
    bool, typer.Option("--no-evaluations", help="Take over no evaluations of the job that this one comes from.")
]
AllProjects = Annotated[bool, typer.Option("--all-projects", help="For admins: those of all projects.")]
At = Annotated[int | None, typer.Option("--at", metavar="IMAGES", min=1, help="The checkpoint there; default: newest.")]
Best = Annotated[
    str | None,
    typer.Option("--best", metavar="CURVE", help="The checkpoint where this is lowest, for example eval/KD-ENL0-1k."),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would come of it, and do nothing.")]
Watch = Annotated[bool, typer.Option("--watch", help="Follow it to its end, as `cdm watch` does.")]
MaxRuntime = Annotated[
    str | None, typer.Option(metavar="2h30m", help="It is ended after that; a short job may fill a gap in the queue.")
]

Arguments = ParamSpec("Arguments")

_WHERE = {"url": Url, "key": Key, "project": Project, "home": Home}


def on_service(command: Callable[Concatenate[Client, Arguments], None]) -> Callable[..., None]:
    """A command that is handed a client of the service which --url, --key, --project and --home name."""

    @wraps(command)
    def connect_and_run(
        *, url: str | None, key: str | None, project: str | None, home: Path | None, **given: Any
    ) -> None:
        with connected(url, key, home, project=project) as client:
            cast(Callable[..., None], command)(client, **given)  # Typer names all arguments

    _, *own = inspect.signature(command).parameters.values()
    where = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)
        for name, annotation in _WHERE.items()
    ]
    parameters = [one.replace(kind=inspect.Parameter.KEYWORD_ONLY) for one in own]
    last = [one for one in parameters if one.name == "as_json"]
    first = [one for one in parameters if one.name != "as_json"]
    connect_and_run.__signature__ = inspect.Signature([*first, *where, *last])  # type: ignore[attr-defined]
    return connect_and_run


class ListsByDefault(TyperGroup):
    """A group of commands: without one of them, its `list`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        is_list = not args or (args[0].startswith("-") and args[0] != "--help")
        return super().parse_args(ctx, ["list", *args] if is_list else args)
