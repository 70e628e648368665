"""Figures that are measured in turn, and what is written of them."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import median
from typing import TypeVar

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Aim:
    """What was hoped for, and what was found."""

    what: str
    is_met: bool
    found: str


@dataclass(frozen=True, slots=True)
class Section:
    """One part of the page. `how` says how it was measured."""

    title: str
    how: str
    repeats: int
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    aims: Sequence[Aim]


def interleaved(variants: dict[str, Callable[[], T]], *, repeats: int) -> dict[str, list[T]]:
    """What each variant returns, `repeats` times: in turn, and in the other order every other time."""
    found: dict[str, list[T]] = {name: [] for name in variants}
    for repeat in range(repeats):
        for name in variants if repeat % 2 == 0 else reversed(variants):
            found[name].append(variants[name]())
        said = ", ".join(f"{name} {_short(values[-1])}" for name, values in found.items())
        print(f"  {repeat + 1} of {repeats}: {said}", flush=True)
    return found


def _short(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def spread(values: Sequence[float], form: str = ".2f") -> str:
    """Median [least, greatest]."""
    return f"{median(values):{form}} [{min(values):{form}}, {max(values):{form}}]"


def percent(shares: Sequence[float]) -> str:
    """Median [least, greatest] of shares."""
    return f"{spread([100 * share for share in shares], '.1f')} %"


def at_most(what: str, shares: Sequence[float], limit: float) -> Aim:
    """An aim for the median of shares of one."""
    return Aim(what, median(shares) < limit, percent(shares))


@contextmanager
def timed(name: str) -> Iterator[None]:
    """Say what begins, and how long it took."""
    print(f"{name}:", flush=True)
    begin = time.monotonic()
    yield
    print(f"{name} took {time.monotonic() - begin:.0f} s", flush=True)
