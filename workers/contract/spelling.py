"""What somebody may have meant who wrote something that is not there."""

from collections.abc import Iterable
from difflib import get_close_matches


def closest(written: str, known: Iterable[str], *, likeness: float = 0.6) -> str | None:
    """The known word that is most like it, if one is as much as that; 1 = the same."""
    found = get_close_matches(written, list(known), n=1, cutoff=likeness)
    return found[0] if found else None


def did_you_mean(written: str, known: Iterable[str]) -> str:
    """The end of a message: what was probably meant, if anything is like it."""
    meant = closest(written, known)
    return f"; did you mean {meant}?" if meant else ""
