"""A training that is asked to leave while it imports its images leaves: that may take hours."""

from pathlib import Path

import numpy as np
import pytest

from tests.support.specs import smoke_spec
from workers.contract.keys import JobKeys
from workers.contract.records import Outcome
from workers.jobs.attempt import Job
from workers.jobs.driver import run_here
from workers.jobs.stop import StopFlag
from workers.storage import open_store


class Told(StopFlag):
    """Has heard a signal already, and listens to no more."""

    def listen(self) -> None:
        pass

    def is_set(self) -> bool:
        return True


def test_it_leaves_at_the_next_image_and_keeps_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CDM_CACHE", str(tmp_path / "cache"))
    np.savez(tmp_path / "images.npz", images=np.zeros((9, 16, 16), dtype=np.uint8))
    dataset = {"kind": "npz", "path": str(tmp_path / "images.npz"), "channels": 1}
    spec = smoke_spec(dataset=dataset, compute={"workers": 1, "accelerator": "cpu"})
    job = Job((tmp_path / "runs").as_uri(), "job", spec)

    outcome = run_here(job, None, Told())

    store = open_store(job.store_url)
    assert (outcome.status, outcome.images_seen) == ("stopped", 0)
    assert outcome.message == "asked to stop while files were fetched or imported; nothing of it is kept"
    assert Outcome.model_validate_json(store.get(JobKeys("job").attempt(1).outcome)) == outcome
    assert store.list("datasets/") == []
