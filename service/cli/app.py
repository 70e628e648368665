"""All commands, in the groups and the order in which `cdm --help` lists them."""

from importlib.metadata import version
from typing import Annotated, Any, cast

import typer
from typer.core import TyperCommand, TyperGroup

from service.cli import (
    administration,
    averages,
    checkpoints,
    comparing,
    convert,
    datasets,
    doctor,
    drawing,
    forks,
    importing,
    jobs,
    logs,
    metrics,
    quickstart,
    rebuilding,
    results,
    stack,
    submission,
    updates,
    uploads,
    verbs,
    webhooks,
)

_GROUPS = {
    "This machine": (quickstart.quickstart, stack.up, stack.down, stack.status, stack.env),
    "Jobs": (
        *(submission.presets, submission.submit, importing.import_, drawing.sample, drawing.evaluate),
        *(comparing.compare, comparing.study),
        *(jobs.jobs, jobs.show, jobs.watch, jobs.queue, jobs.usage),
    ),
    "What a job can be asked": (
        *(verbs.cancel, verbs.pause, verbs.resume, verbs.retry, forks.fork),
        *(updates.update, updates.label),
        *(verbs.archive, verbs.restore, verbs.replay, verbs.delete),
    ),
    "What a job leaves": (
        *(logs.logs, logs.events, metrics.metrics, results.images, results.results, checkpoints.checkpoints),
        *(averages.average, averages.export, convert.convert),
    ),
    "Operation": (doctor.doctor, administration.audit),
}
_APPS = {
    "datasets": datasets.datasets,
    "uploads": uploads.uploads,
    "webhooks": webhooks.webhooks,
    "keys": administration.keys,
    "projects": administration.projects,
    "admin": rebuilding.admin,
}


class _Grouped(TyperGroup):
    """Typer groups commands only where it draws with rich, which takes long to import."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:  # noqa: ARG002 (Typer's signature)
        commands = cast(dict[str, TyperCommand | TyperGroup], self.commands)
        width = max(map(len, commands))
        room = formatter.width - 6 - width
        for group in dict.fromkeys(command.rich_help_panel for command in commands.values()):
            with formatter.section(group):
                formatter.write_dl(
                    (name.ljust(width), command.get_short_help_str(room))
                    for name, command in commands.items()
                    if command.rich_help_panel == group
                )


app = typer.Typer(
    name="cdm",
    cls=_Grouped,
    help="Train consistent diffusion models: jobs on a service, and a service on this machine.",
    epilog="Exit codes: 0 done, 1 not done (standard error says why), 2 misused, 130 interrupted; of a job that is "
    "followed to its end: 3 cancelled, 4 failed. `cdm status`: 3 not ready.",
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


def _tell_version(asked: bool) -> None:
    if asked:
        typer.echo(f"cdm-train {version('cdm-train')}")
        raise typer.Exit


@app.callback()
def _options(
    _version: Annotated[
        bool, typer.Option("--version", callback=_tell_version, is_eager=True, help="Print the release and exit.")
    ] = False,
) -> None:
    """Called before each command."""


for _group, _commands in _GROUPS.items():
    for _command in _commands:
        app.command(_command.__name__.rstrip("_"), rich_help_panel=_group)(_command)
for _name, _app in _APPS.items():
    app.add_typer(_app, name=_name, rich_help_panel="Operation")
