"""How images that cannot be used are told to the person who brought them."""

from dataclasses import dataclass, field
from typing import NoReturn

_SHOWN = 20
_MOST = 1_000_000  # as many as may be left out


class DatasetError(ValueError):
    """A data set that cannot be used as it is; the message says which files, what is wrong, and the mend."""


class ImageError(ValueError):
    """What is wrong with one image; `mend` is what its owner can do, a clause without a full stop."""

    def __init__(self, problem: str, *, mend: str = "mend or remove the broken files") -> None:
        super().__init__(problem)
        self.mend = mend


@dataclass(slots=True)
class Faults:
    """Every image that cannot be used, so that all are mended at once and none is swallowed."""

    place: str
    _found: dict[str, ImageError] = field(default_factory=dict)

    def add(self, name: str, error: ImageError) -> None:
        """Keep what is to be said; the error holds on to the image's bytes, in the frames that it came through.

        Raises:
            DatasetError: there are more than a million.
        """
        self._found.setdefault(name, ImageError(str(error), mend=error.mend))
        if len(self._found) > _MOST:
            self.refuse()

    def __len__(self) -> int:
        return len(self._found)

    def reasons(self, limit: int) -> dict[str, str]:
        """What is wrong with each, for the first `limit` of them by name."""
        return {name: str(error) for name, error in sorted(self._found.items())[:limit]}

    def refuse(self) -> NoReturn:
        """Raises: DatasetError. Its first line stands alone; the others name the files, the first twenty of many."""
        found = sorted(self._found.items())
        mends = "; or ".join(dict.fromkeys(error.mend for _, error in found))
        lines = [f"{self.place}: images that cannot be used: {len(found)}; {mends}"]
        lines += [f"{name!r} {error}" for name, error in found[:_SHOWN]]
        if len(found) > _SHOWN:
            lines.append(f"and {len(found) - _SHOWN} more")
        raise DatasetError("\n  ".join(lines))
