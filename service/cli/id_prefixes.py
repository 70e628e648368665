"""Ids of which the beginning is enough."""

from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from service.cli.errors import CommandFailed
from service.cli.hints import command
from service.client import Client

Row = TypeVar("Row")
DIGEST_DIGITS = 64


def with_prefix(rows: Iterable[Row], prefix: str, *, id_of: Callable[[Row], str], mark: str = "") -> list[Row]:
    """Those whose id begins so, in capitals or not, with the mark of what they are or without."""
    start = prefix.lower().removeprefix(mark)
    return [row for row in rows if id_of(row).lower().removeprefix(mark).startswith(start)]


def only(found: Sequence[Row], prefix: str, *, what: str, lists: str, how: str = "begin with") -> Row:
    """Of those that begin so, if there is but one. `lists`: the command that lists all."""
    if len(found) != 1:
        raise CommandFailed(f"{len(found) or 'no'} {what} {how} {prefix}: {command(lists)} lists them")
    return found[0]


def whole_digest(client: Client, digest: str) -> str:
    """Of the only data set whose digest begins so."""
    if len(digest) == DIGEST_DIGITS:
        return digest
    found = with_prefix(client.datasets.list(), digest, id_of=lambda one: one.digest)
    return only(found, digest, what="data sets", lists="datasets").digest
