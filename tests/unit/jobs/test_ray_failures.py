"""What a failed Ray Train run is taken for."""

from ray.exceptions import ActorDiedError
from ray.train import ControllerError
from ray.train.v2._internal.exceptions import WorkerHealthCheckFailedError
from ray.train.v2.api.exceptions import WorkerGroupError

from workers.data import DatasetError
from workers.jobs.failures import WorkersLostError
from workers.jobs.ray_train import _cause


def test_what_a_worker_raised_is_the_cause() -> None:
    raised = DatasetError("shard spoilt")

    assert _cause(WorkerGroupError("2 workers failed", {1: raised, 0: raised})) is raised


def test_a_dead_worker_is_the_cause_and_the_others_broken_connections_are_its_echo() -> None:
    dead = WorkerHealthCheckFailedError("actor died", failure=ActorDiedError())
    echo = RuntimeError("Connection closed by peer")

    cause = _cause(WorkerGroupError("2 workers failed", {0: echo, 1: dead}))

    assert isinstance(cause, WorkersLostError)
    assert str(cause).startswith("worker 1 died; ")


def test_a_failure_of_ray_train_itself_loses_the_workers_and_says_how() -> None:
    cause = _cause(ControllerError(RuntimeError("placement group was removed")))

    assert isinstance(cause, WorkersLostError)
    assert "placement group was removed" in str(cause)
