"""Commands that answers name, as they have to be given: with the options that say which service or stack is meant."""

import shlex
from pathlib import Path
from typing import Any

import typer

from service.embedded.folder import Folder

_OF_THIS_MACHINE = ("up", "down", "status", "quickstart", "admin")  # they know --home alone

_given: dict[str, str] = {}


def remember(context: typer.Context, parameter: typer.CallbackParam, value: Any) -> Any:
    """Called with each option that says where; what comes from the environment goes without saying."""
    name = str(parameter.name)
    source = context.get_parameter_source(name)
    if source is not None and source.name == "COMMANDLINE":
        _given[name] = str(value)
    return value


def forget() -> None:
    """What was given to an earlier command of this process."""
    _given.clear()


def command(words: str) -> str:
    """`cdm` with these words, quoted. A key that was given is not repeated: answers are kept in logs."""
    options = [] if words.split()[0] in _OF_THIS_MACHINE else [("--url", "url"), ("--project", "project")]
    where = [part for option, name in options if name in _given for part in (option, _given[name])]
    if "home" in _given:
        where += Folder.at(Path(_given["home"])).options
    return f"`{' '.join(['cdm', words, *map(shlex.quote, where)])}`"
