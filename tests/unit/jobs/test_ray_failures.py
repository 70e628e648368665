"""What a failed Ray Train run is taken for."""

from ray.exceptions import ActorDiedError
from ray.train import ControllerError
from ray.train.v2._internal.exceptions import WorkerHealthCheckFailedError
from ray.train.v2.api.exceptions import WorkerGroupError

from tests.support.failures import cause_of
from workers.contract.keys import JobKeys
from workers.data import DatasetError
from workers.jobs.diagnosis import why_hung
from workers.jobs.failures import LeftWaitingError, WorkersLostError
from workers.storage.memory import MemoryStore
from workers.training.watchdog import HUNG


def test_what_a_worker_raised_is_the_cause() -> None:
    raised = DatasetError("shard spoilt")

    assert cause_of(WorkerGroupError("2 workers failed", {1: raised, 0: raised})) is raised


def test_a_dead_worker_is_the_cause_and_the_others_broken_connections_are_its_echo() -> None:
    dead = WorkerHealthCheckFailedError("actor died", failure=ActorDiedError())
    echo = RuntimeError("Connection closed by peer")

    cause = cause_of(WorkerGroupError("2 workers failed", {0: echo, 1: dead}))

    assert isinstance(cause, WorkersLostError)
    assert str(cause).startswith("worker 1 died; ")


def test_a_worker_that_its_watchdog_has_ended_is_told_from_one_that_died() -> None:
    store, keys = MemoryStore(), JobKeys("job").attempt(1)
    words = f"error: {HUNG}: no first step for 1800 s (compute.start_seconds); this process ends\n"
    store.put(keys.log_chunk("rank-0000", 0), f"worker.ready\n{words}".encode())
    store.put(keys.log_chunk("rank-0001", 0), words.encode())
    store.put(keys.log_chunk("rank-0001", 40), b"worker.ready\n")  # it was restarted, and then died otherwise
    dead = WorkerHealthCheckFailedError("actor died", failure=ActorDiedError())
    failures = {0: dead, 1: dead, 2: dead}

    cause = cause_of(WorkerGroupError("failed", failures), why_hung=lambda rank: why_hung(store, keys, rank))

    assert isinstance(cause, WorkersLostError)
    assert str(cause) == (
        "no first step for 1800 s (compute.start_seconds), so worker 0 ended; "
        "what each thread was doing is at the end of the log rank-0000"
    )


def test_a_store_that_does_not_answer_leaves_a_worker_dead() -> None:
    class Away(MemoryStore):
        def list(self, prefix: str) -> list[str]:
            raise ConnectionError("away")

    assert why_hung(Away(), JobKeys("job").attempt(1), 0) is None


def test_a_job_that_left_while_it_waited_for_room_has_lost_no_workers() -> None:
    left = LeftWaitingError()

    assert cause_of(ControllerError(left)) is left


def test_workers_without_a_gpu_are_lost_for_the_reason_that_their_check_found() -> None:
    found = WorkersLostError("PyTorch 2.13.0 (CUDA 13.0) sees no GPU on node-1: no driver")

    assert cause_of(ControllerError(found)) is found


def test_a_failure_of_ray_train_itself_loses_the_workers_and_says_how() -> None:
    cause = cause_of(ControllerError(RuntimeError("placement group was removed")))

    assert isinstance(cause, WorkersLostError)
    assert "placement group was removed" in str(cause)
