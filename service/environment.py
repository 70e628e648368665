"""The settings of this process, as its environment has them."""

import os
import re
from collections.abc import Iterator

from pydantic import BaseModel, ValidationError
from pydantic_settings import SettingsError

from service.settings import Settings
from workers.contract.document import problems_of
from workers.contract.spelling import closest

_PREFIX = "CDM_"
_MISSPELT = 0.9  # as like a setting as that; others have variables of this prefix, too: CDM_PASSWORD, CDM_DATABASE_PORT


class SettingsRefused(Exception):
    """They are wrong. The text is one line that names the variables, and says what would be right."""


def settings_from_environment() -> Settings:
    """What the variables `CDM_...` say.

    Raises:
        SettingsRefused: if any is wrong, lacking or misspelt.
    """
    misspelt = list(_misspelt())
    try:
        settings = Settings()
    except ValidationError as error:
        raise SettingsRefused("; ".join([*_wrong(error), *misspelt])) from None
    except SettingsError as error:
        raise SettingsRefused("; ".join([_unreadable(error), *misspelt])) from None
    if misspelt:
        raise SettingsRefused("; ".join(misspelt))
    return settings


def _misspelt() -> Iterator[str]:
    """Variables that are like a setting and none."""
    known = set(_names(Settings))
    for name in sorted(os.environ):
        written = name.upper()
        if written.partition("__")[0] in known:  # a group refuses by itself what is not of it
            continue
        if meant := closest(written, known, likeness=_MISSPELT):
            yield f"{name}: there is no such setting; did you mean {meant}?"


def _names(settings: type[BaseModel], prefix: str = _PREFIX) -> Iterator[str]:
    for field, about in settings.model_fields.items():
        name = f"{prefix}{field.upper()}"
        yield name
        if isinstance(about.default, BaseModel):
            yield from _names(type(about.default), f"{name}__")


def _wrong(error: ValidationError) -> Iterator[str]:
    for one in problems_of(error):
        if one.code != "default_factory_not_called":  # because others are wrong, which are named
            path = [part for part in one.pointer.strip("/").split("/") if not part.isdigit()]
            yield f"{_PREFIX}{'__'.join(path).upper()}: {one.message}"


def _unreadable(error: SettingsError) -> str:
    """Its own text names the field alone."""
    field = re.search(r'field "(\w+)"', str(error))
    if not field:
        return str(error)
    return f'{_PREFIX}{field[1].upper()}: it is no JSON; write a list as ["..."], and a group as {{"name": "value"}}'
