"""A training that is asked to leave while it imports its images, or waits, leaves: that may take hours."""

from pathlib import Path
from threading import Event

import numpy as np
import pytest

from tests.support.specs import smoke_spec
from workers.contract.keys import JobKeys
from workers.contract.records import Outcome, Progress
from workers.jobs import driver
from workers.jobs.attempt import Job
from workers.jobs.failures import LeftWaitingError
from workers.storage import open_store
from workers.tracking.heartbeat import first_word
from workers.training.run import Ending


def test_it_leaves_at_the_next_image_and_keeps_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CDM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(driver, "set_on_signals", Event.set)  # one has come already
    np.savez(tmp_path / "images.npz", images=np.zeros((9, 16, 16), dtype=np.uint8))
    dataset = {"kind": "npz", "path": str(tmp_path / "images.npz"), "channels": 1}
    spec = smoke_spec(dataset=dataset, compute={"workers": 1, "accelerator": "cpu"})
    job = Job((tmp_path / "runs").as_uri(), "job", spec)

    outcome = driver.run_here(job, None, Event())

    store = open_store(job.store_url)
    assert (outcome.status, outcome.images_seen) == ("stopped", 0)
    assert outcome.message == "asked to stop while files were fetched or imported; nothing of it is kept"
    assert Outcome.model_validate_json(store.get(JobKeys("job").attempt(1).outcome)) == outcome
    assert store.list("datasets/") == []


@pytest.mark.parametrize(("told", "images_seen"), [([], 0), ([first_word(320, 2, images_seen=160)], 160)])
def test_one_that_is_asked_to_leave_while_it_waits_for_room_is_stopped_where_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, told: list[Progress], images_seen: int
) -> None:
    job = Job((tmp_path / "runs").as_uri(), "job", smoke_spec(compute={"workers": 1, "accelerator": "cpu"}))

    def wait(*_: object, **__: object) -> Ending:
        for progress in told:
            job.open_store().put(job.keys.attempt(1).progress, progress.model_dump_json().encode())
        raise LeftWaitingError

    monkeypatch.setattr(driver, "set_on_signals", lambda stop: None)
    monkeypatch.setattr(driver, "_prepared", lambda *_: None)
    monkeypatch.setitem(driver.WORK, "train", wait)

    outcome = driver.run_here(job, None, Event())

    assert (outcome.status, outcome.reason, outcome.images_seen) == ("stopped", None, images_seen)
    assert outcome.message == "asked to stop while it waited for room for its workers"
