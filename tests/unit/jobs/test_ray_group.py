"""A group of workers is asked of Ray Train whatever the cluster has by now: its autoscaler waits to be asked."""

from threading import Event
from types import SimpleNamespace

import pytest
import ray
from ray.train import ScalingConfig

from tests.support.specs import smoke_spec
from workers.jobs import ray_group
from workers.jobs.ray_group import run_group
from workers.jobs.signals import Signals
from workers.training.run import Ending, Run


class Trained:
    """In place of Ray Train's trainer: knows which group it was asked for, and is done at once."""

    asked: ScalingConfig

    def __init__(self, *_: object, scaling_config: ScalingConfig, **__: object) -> None:
        Trained.asked = scaling_config

    def fit(self) -> SimpleNamespace:
        return SimpleNamespace(return_value={"images_seen": 320})


@pytest.fixture
def no_nodes(monkeypatch: pytest.MonkeyPatch) -> None:
    """A cluster of a head alone."""
    monkeypatch.setattr(ray, "cluster_resources", dict)
    monkeypatch.setattr(ray_group, "TorchTrainer", Trained)
    monkeypatch.setattr(Signals, "open", lambda: Signals(None))


@pytest.mark.usefixtures("no_nodes")
def test_a_first_job_asks_for_nodes_that_are_not_there_yet() -> None:
    spec = smoke_spec(compute={"workers": 4, "accelerator": "gpu"})

    ending = run_group(Run("memory://no-nodes-yet", "job_1", 1, ""), spec, Event())

    assert ending == Ending(320)
    assert (Trained.asked.num_workers, Trained.asked.use_gpu) == (4, True)
