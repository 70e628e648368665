"""Machines whose clock is set while they run, as far as Python can tell."""

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

COMPILER = shutil.which("cc")
_SOURCE = Path(__file__).with_suffix(".c")


@dataclass(frozen=True, slots=True)
class SettableClock:
    """The clock that tells the time of day; what measures durations (CLOCK_MONOTONIC) goes on as it was."""

    folder: Path

    @classmethod
    def made_in(cls, folder: Path) -> "SettableClock":
        assert COMPILER
        clock = cls(folder)
        subprocess.run([COMPILER, "-shared", "-fPIC", "-O2", "-o", clock._library, _SOURCE], check=True)
        clock.set(0)
        return clock

    @property
    def environment(self) -> dict[str, str]:
        """Of the processes that are to go by it."""
        return {"LD_PRELOAD": str(self._library), "CLOCK_OFFSET": str(self._offset)}

    def set(self, seconds: int) -> None:
        """So far ahead of the true time; behind it, if negative."""
        new = self._offset.with_suffix(".new")
        new.write_text(str(seconds))
        os.replace(new, self._offset)

    @property
    def _library(self) -> Path:
        return self.folder / "set_clock.so"

    @property
    def _offset(self) -> Path:
        return self.folder / "offset"
