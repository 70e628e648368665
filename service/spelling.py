"""What somebody may have meant who wrote something that is not there."""

from collections.abc import Iterable
from difflib import get_close_matches


def did_you_mean(written: str, known: Iterable[str]) -> str:
    """The end of a message: the known word that is closest to it, if one is close."""
    close = get_close_matches(written, list(known), n=1)
    return f"; did you mean {close[0]}?" if close else ""
