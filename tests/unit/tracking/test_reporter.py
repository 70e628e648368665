"""What the first process tells, while those it tells are away."""

import json
from datetime import timedelta
from typing import Any

import numpy as np
import pytest
import torch

from tests.support.waiting import wait_until
from workers.contract.keys import JobKeys
from workers.contract.records import Progress
from workers.storage.memory import MemoryStore
from workers.tracking import background, mlflow_run, reporter
from workers.tracking.events import Checkpointed, Ended, Event, Grid, Metrics, MlflowStatus
from workers.tracking.heartbeat import first_word
from workers.tracking.reporter import Reporter

KEYS = JobKeys("job_1")


class ForgetfulStore(MemoryStore):
    """Takes nothing but signs of life while it is `away`."""

    away = False

    def put(self, key: str, data: bytes) -> None:
        if self.away and key != KEYS.attempt(1).progress:
            raise ConnectionError("away")
        super().put(key, data)

    def put_if_absent(self, key: str, data: bytes) -> bool:
        if self.away:
            raise ConnectionError("away")
        return super().put_if_absent(key, data)


class NoPlaceForFiles:
    """An MLflow that takes rows and cannot keep a picture."""

    run_id = "run"

    def __init__(self) -> None:
        self.taken: list[Event] = []

    def deliver(self, events: list[Event]) -> None:
        if any(isinstance(event, Grid) for event in events):
            raise PermissionError("no bucket")
        self.taken += events


def progress_in(store: MemoryStore) -> Progress:
    return Progress.model_validate_json(store.get(KEYS.attempt(1).progress))


def waiting_for_the_journal(store: MemoryStore) -> int:
    behind = progress_in(store).tracking_behind.get("journal")
    return behind.waiting if behind else 0


def test_a_store_that_takes_nothing_for_long_costs_only_a_delay_and_is_said_in_the_progress(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setattr(background, "_BEHIND_AFTER", timedelta(0))
    store = ForgetfulStore()
    reporter = Reporter(store, KEYS, 1, store_url="memory://x", progress=first_word(10_000, 1), params={}, tags={})
    telemetry = {f"loss/dsm/level_{level}": 0.123456789 for level in range(20)}

    store.away = True
    for seen in range(10_000):
        reporter.metrics(seen, losses={"dsm": 1 / (seen + 1)}, rate=50.0, telemetry=telemetry)
    reporter.grid(10_000, b"png")
    wait_until(lambda: waiting_for_the_journal(store) == 10_001)
    store.away = False
    reporter.close(None)

    chunks = [store.get(key) for key in store.list(KEYS.attempt(1).metrics)]
    rows = [json.loads(line) for chunk in chunks for line in chunk.splitlines()]
    assert [(row["images_seen"], row["loss/dsm"]) for row in rows] == [(seen, 1 / (seen + 1)) for seen in range(10_000)]
    assert store.get(KEYS.sample(10_000)) == b"png"
    assert progress_in(store).tracking_behind == {}


@pytest.mark.parametrize(
    ("telemetry", "refusal"),
    [
        ({"gap@0.5": 1.0}, "'gap@0.5' cannot be the name of a curve: give 1 to 250 letters"),
        ({"p50%": 1.0}, "'p50%' cannot be"),
        ({"own//gap": 1.0}, "'own//gap' cannot be"),
        ({"time": 1.0}, "'time' cannot be .* and not images_seen or time"),
        ({"own/gap": torch.ones(2)}, "the curve 'own/gap' takes one number, not a Tensor: "),
        ({"own/gap": None}, "the curve 'own/gap' takes one number, not a NoneType: "),
    ],
    ids=["at", "percent", "slashes", "taken", "vector", "nothing"],
)
def test_a_row_that_nobody_could_take_is_refused_where_it_is_given(
    monkeypatch: pytest.MonkeyPatch, telemetry: dict[str, Any], refusal: str
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    store = MemoryStore()
    told = Reporter(store, KEYS, 1, store_url="memory://x", progress=first_word(64, 1), params={}, tags={})

    with pytest.raises((TypeError, ValueError), match=refusal):
        told.metrics(16, losses={"dsm": 0.5}, rate=50.0, telemetry=telemetry)
    told.metrics(32, losses={"dsm": 0.5}, rate=50.0, telemetry={})
    told.close(None)

    (chunk,) = [store.get(key) for key in store.list(KEYS.attempt(1).metrics)]
    assert [json.loads(line)["images_seen"] for line in chunk.splitlines()] == [32], "others are delivered"


def test_numbers_of_any_library_are_recorded_as_plain_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    store = MemoryStore()
    told = Reporter(store, KEYS, 1, store_url="memory://x", progress=first_word(64, 1), params={}, tags={})
    given: dict[str, Any] = {
        "losses": {"dsm": torch.tensor(0.5)},
        "rate": np.float32(50.0),
        "telemetry": {"own/gap at 0.5": np.int64(2)},
    }

    row = told.metrics(16, **given)
    told.close(None)

    assert row == {"loss/dsm": 0.5, "throughput/images_per_second": 50.0, "own/gap at 0.5": 2.0}
    (chunk,) = [store.get(key) for key in store.list(KEYS.attempt(1).metrics)]
    assert json.loads(chunk).items() >= row.items()
    assert (progress_in(store).losses, progress_in(store).images_per_second) == ({"dsm": 0.5}, 50.0)


@pytest.mark.parametrize(("status", "patience"), [("KILLED", 5.0), ("FINISHED", 30.0), ("FAILED", 30.0), (None, 30.0)])
def test_who_was_asked_to_leave_does_not_spend_its_grace_on_deliveries(
    monkeypatch: pytest.MonkeyPatch, status: MlflowStatus | None, patience: float
) -> None:
    waited: list[float] = []
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setattr(background.Background, "close", lambda _, seconds: waited.append(seconds))
    told = Reporter(MemoryStore(), KEYS, 1, store_url="memory://x", progress=first_word(1, 1), params={}, tags={})

    told.close(status)

    assert waited == [pytest.approx(patience, abs=1.0)]


def test_pictures_that_mlflow_refuses_keep_no_row_from_it(monkeypatch: pytest.MonkeyPatch) -> None:
    mlflow, store = NoPlaceForFiles(), MemoryStore()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://mlflow.test")
    monkeypatch.setattr(mlflow_run, "MlflowRun", lambda *_, **__: mlflow)
    monkeypatch.setattr(background, "_BEHIND_AFTER", timedelta(0))
    monkeypatch.setattr(reporter, "_CLOSE_SECONDS", 0.5)
    told = Reporter(store, KEYS, 1, store_url="memory://x", progress=first_word(192, 1), params={}, tags={})

    for seen in (64, 128):
        told.grid(seen, b"png")
        told.metrics(seen, losses={"dsm": 0.5}, rate=50.0, telemetry={})
        told.checkpoint(seen, "jobs/job_1/checkpoints/x/", seconds=1.0)
    wait_until(lambda: len(mlflow.taken) == 6)
    wait_until(lambda: progress_in(store).tracking_behind.keys() == {"mlflow_pictures"})
    behind = progress_in(store).tracking_behind["mlflow_pictures"]
    run_id = told.close("FINISHED")

    assert behind.waiting == 2
    assert run_id == "run"
    assert [type(event) for event in mlflow.taken] == [Metrics, Checkpointed, Metrics] * 2 + [Ended]
    assert store.get(KEYS.sample(64)) == store.get(KEYS.sample(128)) == b"png"
