"""Time by hand."""

import time
from datetime import UTC, datetime, timedelta

import pytest


class ManualClock:
    """Stands still until moved."""

    def __init__(self) -> None:
        self.now = datetime(2026, 11, 1, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


class LeadingClock:
    """The machine's, ahead by what it was moved."""

    def __init__(self) -> None:
        self._lead = timedelta()

    def __call__(self) -> datetime:
        return datetime.now(UTC) + self._lead

    def advance(self, seconds: float) -> None:
        self._lead += timedelta(seconds=seconds)


def counted_by(clock: ManualClock, monkeypatch: pytest.MonkeyPatch) -> None:
    """What `limits` counts it counts by the machine's time, and takes no other: let that be this one."""
    monkeypatch.setattr(time, "time", lambda: clock().timestamp())
