"""What a job is told while Ray Train waits for room. The watch itself lives in Ray: `chaos/test_training_faults.py`."""

from datetime import UTC, datetime, timedelta

import pytest

from workers.contract.records import Ledger
from workers.jobs.controller_watch import waiting
from workers.tracking.heartbeat import Status, progress_of


def test_the_last_word_of_workers_that_are_gone_is_kept_and_dated_anew() -> None:
    status = Status(1000, 2, phase="training", images_seen=500, images_per_second=10.0, ledger=Ledger(useful=50.0))
    last = progress_of(status).model_copy(update={"updated_at": datetime.now(UTC) - timedelta(seconds=70)})

    first = waiting(last, "room for 2 gpu workers")
    second = waiting(first.model_copy(update={"ledger_at": datetime.now(UTC) - timedelta(seconds=60)}), "room for 2")

    assert (first.phase, first.images_seen, first.num_workers) == ("waiting", 500, 2)
    assert (first.images_per_second, first.eta_seconds) == (0.0, None)
    assert datetime.now(UTC) - first.updated_at < timedelta(seconds=10)
    assert second.waiting_for == "room for 2"
    assert (second.ledger.useful, second.ledger.restarting) == (50.0, pytest.approx(70, abs=5))
    assert second.ledger.waiting == pytest.approx(60, abs=5)
