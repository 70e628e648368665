"""The time that is left of a job goes by what its pieces cost, not by how many images they are of."""

from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from workers.contract.compute import Workers
from workers.sampling.pieces import Piece, Tensors
from workers.sampling.watched_work import watched_work
from workers.storage.memory import MemoryStore
from workers.tracking.heartbeat import Heartbeat, eta_seconds, first_word
from workers.training.run import Run, RunRequests
from workers.training.world import World


def test_dear_images_are_reckoned_with_before_they_come(monkeypatch: pytest.MonkeyPatch) -> None:
    """Six pieces of ten images take a second each, then one of ten takes forty."""
    seconds, told = [0.0], []
    monkeypatch.setattr("workers.sampling.watched_work.time", SimpleNamespace(monotonic=lambda: seconds[0]))

    def update(_heartbeat: Heartbeat, *, expected_end: datetime | None, **changes: Any) -> None:
        told.append(round(eta_seconds(first_word(num_workers=1, **changes), expected_end) or 0))

    def piece(name: str, passes: int) -> Piece:
        def make() -> Tensors:
            seconds[0] += passes
            return {"done": torch.ones(1)}

        return Piece(f"pieces/{name}", 10, make, passes)

    monkeypatch.setattr(Heartbeat, "update", update)
    run, world = Run("memory://time-left", "job", 1, ""), World.alone(torch.device("cpu"))
    with watched_work(
        run,
        world,
        MemoryStore.named("time-left"),
        Workers(),
        phase="evaluating",
        poll_requests=RunRequests,
        on_hang=lambda _: None,
    ) as runner:
        assert runner.work_through([*(piece(f"cheap{n}", 1) for n in range(6)), piece("dear", 40)])

    assert told == [0, 45, 44, 43, 42, 41, 40, 0]  # before the first is done nothing is known


def test_time_left_runs_down_while_nothing_is_told() -> None:
    """And it never is less than none."""
    past = datetime(2026, 1, 1, tzinfo=UTC)

    assert eta_seconds(first_word(100, 1, images_seen=10, images_per_second=1.0), past) == 0
    assert eta_seconds(first_word(100, 1, images_seen=10, images_per_second=2.0), None) == 45
