"""Ids of which the beginning is enough."""

from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from service.cli.errors import CommandFailed
from service.cli.hints import command
from service.client import Client, InvalidRequest

Row = TypeVar("Row")
DIGEST_DIGITS = 64
ENOUGH = 51  # that fit, to say that it is none of them


def with_prefix(rows: Iterable[Row], prefix: str, *, id_of: Callable[[Row], str], mark: str = "") -> list[Row]:
    """Those whose id begins so, in capitals or not, with the mark of what they are or without."""
    start = prefix.lower().removeprefix(mark)
    return [row for row in rows if id_of(row).lower().removeprefix(mark).startswith(start)]


def only(found: Sequence[Row], prefix: str, *, what: str, lists: str, how: str = "begin with") -> Row:
    """Of those that begin so, if there is but one. `lists`: the command that lists all."""
    if len(found) != 1:
        count = f"more than {ENOUGH - 1}" if len(found) >= ENOUGH else len(found) or "no"
        raise CommandFailed(f"{count} {what} {how} {prefix}: {command(lists)} lists them")
    return found[0]


def whole_digest(client: Client, digest: str) -> str:
    """Of the only data set whose digest begins so."""
    if len(digest) == DIGEST_DIGITS:
        return digest
    try:
        found = list(client.datasets.list(digest_prefix=digest.lower()))
    except InvalidRequest:  # no digest begins so, or the service is of a release that only lists all
        found = with_prefix(client.datasets.list(), digest, id_of=lambda one: one.digest)
    return only(found, digest, what="data sets", lists="datasets").digest
