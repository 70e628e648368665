"""Answers on standard output: for people, or one JSON document."""

# ruff: noqa: T201 (printing is its purpose)

import json
import sys
from collections.abc import Iterator
from itertools import islice
from typing import Any, TypeVar

from pydantic import BaseModel

Row = TypeVar("Row")


def tell(document: Any, words: str, *, as_json: bool, has_more: bool = False) -> None:
    """The answer of a command; `document` may hold models. `has_more` = it is a list that --limit has cut."""
    if not as_json:
        print(words)
    elif isinstance(document, BaseModel):
        print(document.model_dump_json(indent=2))
    else:
        print(json.dumps(document, indent=2, default=_plain))
    if has_more:
        remark("there are more than these: see them with a higher --limit")


def first(rows: Iterator[Row], limit: int) -> tuple[list[Row], bool]:
    """The first so many, and whether there are more."""
    found = list(islice(rows, limit + 1))
    return found[:limit], len(found) > limit


def _plain(model: BaseModel) -> Any:
    return json.loads(model.model_dump_json())


def say(words: str, *, as_json: bool) -> None:
    """Something by the way; kept out of what programs read."""
    print(words, file=sys.stderr if as_json else sys.stdout, flush=True)


def remark(words: str) -> None:
    """What people may want to know beside an answer; never part of it."""
    print(words, file=sys.stderr, flush=True)


def tell_line(document: dict[str, Any], words: str, *, as_json: bool) -> None:
    """One of several answers that come one after another."""
    print(json.dumps(document) if as_json else words, flush=True)
