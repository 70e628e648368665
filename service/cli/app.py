"""All commands, in the order in which `cdm --help` lists them."""

import typer

from service.cli import averages, convert, jobs, quickstart, results, stack, submission

app = typer.Typer(
    name="cdm",
    help="Train consistent diffusion models: jobs on a service, and a service on this machine.",
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

for command in (
    quickstart.quickstart,
    stack.up,
    stack.down,
    stack.status,
    submission.presets,
    submission.submit,
    jobs.watch,
    jobs.jobs,
    jobs.show,
    jobs.cancel,
    results.logs,
    results.images,
    convert.convert,
    averages.average,
):
    app.command()(command)
