"""A group of workers is asked of Ray Train whatever the cluster has by now: its autoscaler waits to be asked."""

from collections.abc import Callable
from threading import Event, Thread, current_thread, main_thread
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
import ray
import torch
from ray.train import RunConfig, ScalingConfig

from tests.support.specs import smoke_spec
from workers.contract.document import SpecError
from workers.data import DatasetError
from workers.jobs import ray_group
from workers.jobs.failures import WorkersLostError
from workers.jobs.ray_group import GpuCheck, returned, run_group
from workers.jobs.signals import Signals
from workers.training.checkpoint import ForeignCheckpointError
from workers.training.run import Ending, Run
from workers.training.world import World


class Trained:
    """In place of Ray Train's trainer: knows which group it was asked for, and is done at once."""

    asked: ScalingConfig
    run_config: RunConfig
    returned: ClassVar[dict[str, object]] = {"images_seen": 320}
    thread: Thread

    def __init__(self, *_: object, scaling_config: ScalingConfig, run_config: RunConfig, **__: object) -> None:
        Trained.asked, Trained.run_config = scaling_config, run_config

    def fit(self) -> SimpleNamespace:
        Trained.thread = current_thread()
        return SimpleNamespace(return_value=self.returned)


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


REFUSALS = [
    DatasetError("cat/0.png: is no image"),
    SpecError("it is not there", field="origin"),
    ForeignCheckpointError("MANIFEST.json: files: missing"),
]


def refusing(refusal: Exception) -> Callable[[], Ending]:
    def refuse() -> Ending:
        raise refusal

    return refuse


@pytest.mark.usefixtures("no_nodes")
@pytest.mark.parametrize("refusal", REFUSALS, ids=["images", "document", "checkpoint"])
def test_what_a_worker_alone_refuses_is_not_repeated(refusal: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray repeats whatever raises, so it hears of no error, but the driver does."""
    alone = World.alone(torch.device("cpu"))
    monkeypatch.setattr(Trained, "returned", returned(refusing(refusal), alone))

    with pytest.raises(type(refusal), match=str(refusal)):
        run_group(Run("memory://refused", "job_1", 1, ""), smoke_spec(), Event())


@pytest.mark.parametrize("refusal", REFUSALS, ids=["images", "document", "checkpoint"])
def test_one_of_several_raises_so_that_ray_ends_the_others(refusal: Exception) -> None:
    with pytest.raises(type(refusal)):
        returned(refusing(refusal), World(0, 2, torch.device("cpu")))


@pytest.mark.usefixtures("no_nodes")
def test_ray_train_is_kept_from_the_main_thread_where_it_would_take_ctrl_c_for_itself() -> None:
    run_group(Run("memory://ctrl-c", "job_1", 1, ""), smoke_spec(), Event())

    assert Trained.thread is not main_thread()


@pytest.mark.usefixtures("no_nodes")
@pytest.mark.parametrize(("accelerator", "checks"), [("gpu", 1), ("cpu", 0)])
def test_workers_are_asked_for_their_gpus_where_the_job_wants_some(accelerator: str, checks: int) -> None:
    run_group(Run("memory://checks", "job_1", 1, ""), smoke_spec(compute={"accelerator": accelerator}), Event())

    callbacks = Trained.run_config.callbacks
    assert callbacks is not None
    assert [isinstance(one, GpuCheck) for one in callbacks].count(True) == checks


def _workers(monkeypatch: pytest.MonkeyPatch, *found: str | None) -> Any:
    """Of a started group, on nodes that see a GPU (None) or say why they do not."""
    monkeypatch.setattr(ray, "get", list)
    return [SimpleNamespace(execute_async=lambda _, said=said: said) for said in found]


def test_a_node_whose_gpus_pytorch_does_not_see_is_named_before_nccl_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    workers = _workers(monkeypatch, None, "PyTorch 2.13.0 (CUDA 13.0) sees no GPU on node-1: the driver is too old")

    with pytest.raises(WorkersLostError, match="sees no GPU on node-1: the driver is too old"):
        GpuCheck().before_init_train_context(workers)


def test_workers_that_see_their_gpus_start(monkeypatch: pytest.MonkeyPatch) -> None:
    assert GpuCheck().before_init_train_context(_workers(monkeypatch, None, None)) == {}
