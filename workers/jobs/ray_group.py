"""A group of workers on Ray Train: restarted from what is in the store when one dies, stopped cooperatively."""

import gc
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from threading import Event
from typing import Any

import ray
import ray.train
import ray.train.torch
import structlog
from ray.exceptions import RayError
from ray.train import FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchConfig, TorchTrainer
from ray.train.v2._internal.exceptions import RayTrainError
from ray.train.v2._internal.execution.callback import WorkerGroupCallback
from ray.train.v2._internal.execution.context import get_train_context
from ray.train.v2._internal.execution.worker_group import Worker

from workers.contract.compute import Workers
from workers.contract.document import SpecError
from workers.contract.jobs import AnySpec
from workers.contract.keys import rank_log
from workers.data import DatasetError
from workers.data.scratch import scratch_folder
from workers.jobs.controller_watch import ControllerWatch
from workers.jobs.diagnosis import is_broken_connection, is_out_of_memory, why_hung
from workers.jobs.failures import LeftWaitingError, WorkersLostError
from workers.jobs.kinds import WORK
from workers.jobs.signals import SignalPoller, Signals
from workers.logs import configure_logging
from workers.storage import open_store
from workers.tracking.output import shipped_output
from workers.training.checkpoint import ForeignCheckpointError
from workers.training.run import Ending, Run, RunRequests
from workers.training.world import World, collective_seconds, why_no_gpu

log = structlog.get_logger()

_RESIZE_SECONDS = 60.0  # at least, between two groups of other sizes
_REFUSAL = "refusal"
_START_SECONDS = 30  # between two looks for room, in which nobody hears that the job is to leave: within its grace
_WATCHDOGS_FIRST_SECONDS = 30  # the watchdogs of those that wait for a frozen worker also tell where they stood


def connect_to_ray() -> None:
    """Join the cluster of RAY_ADDRESS, which Ray sets for its jobs."""
    ray.init(logging_level="WARNING")


def run_group(run: Run, spec: AnySpec, stop: Event) -> Ending:
    """Work in as many workers as the spec asks for and return how it ended, as the first worker tells it.

    While nodes are missing it waits for them, or goes on with `compute.min_workers`: an autoscaler adds some only once
    Ray Train has asked for them, and nobody can tell from here whether there is one. `ControllerWatch` says so.

    Raises:
        DatasetError, ForeignCheckpointError, SpecError: a worker that works alone refuses what it was given.
        LeftWaitingError: it was asked to leave, and there were no workers.
        WorkersLostError: workers died, more often than the spec allows.
        Exception: what a worker raised, likewise.
    """
    signals = Signals.open()
    signals.forward(stop)
    # Who only waits for others' pieces has no watchdog that minds, so Ray Train ends workers that do not answer it.
    silence = spec.compute.hang_seconds + _WATCHDOGS_FIRST_SECONDS
    os.environ.setdefault("RAY_TRAIN_WORKER_HEALTH_CHECK_TIMEOUT_S", str(silence))
    os.environ.setdefault("RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S", str(_START_SECONDS))
    with scratch_folder() as scratch:
        trainer = TorchTrainer(
            _worker,
            train_loop_config={"run": asdict(run), "kind": spec.kind, "signals": signals},
            scaling_config=_scaling(spec.compute),
            # Ray Train keeps nothing of ours: checkpoints have their own manifests, so its folder may vanish.
            run_config=RunConfig(
                name=f"{run.job_id}-a{run.attempt}",
                storage_path=str(scratch),
                failure_config=FailureConfig(max_failures=spec.compute.max_worker_failures),
                callbacks=[ControllerWatch(run, spec, signals), *([GpuCheck()] if _uses_gpus(spec.compute) else [])],
            ),
            torch_config=TorchConfig(timeout_s=collective_seconds(spec.compute)),
        )
        try:
            result = _fitted(trainer)
        except ray.train.TrainingFailedError as error:
            store, keys = open_store(run.store_url), run.keys.attempt(run.attempt)
            raise _cause(error, lambda rank: why_hung(store, keys, rank)) from error
    if refusal := result.return_value.get(_REFUSAL):
        raise refusal
    return Ending(**result.return_value)


class GpuCheck(WorkerGroupCallback):  # type: ignore[misc] # untyped in Ray
    """Asks workers for their GPUs before Ray joins them by NCCL, whose errors do not say that the driver is too old."""

    def before_init_train_context(self, workers: list[Worker]) -> dict[str, list[Any]]:
        """Ray calls this once its workers have been given their GPUs.

        Raises:
            WorkersLostError: PyTorch sees none on a node that Ray has counted some of.
        """
        found: list[str | None] = ray.get([worker.execute_async(why_no_gpu) for worker in workers])
        if problem := next(filter(None, found), None):
            raise WorkersLostError(problem)
        return {}


def _fitted(trainer: TorchTrainer) -> ray.train.Result:
    """Outside the main thread, where Ray Train would take Ctrl-C for itself and kill workers before they can save."""
    with ThreadPoolExecutor(max_workers=1) as thread:
        return thread.submit(trainer.fit).result()


def _worker(config: dict[str, Any]) -> dict[str, Any]:
    """One Ray Train worker; Ray has already joined it to the others."""
    configure_logging()
    gc.freeze()  # as after `imports_to_stay`: Ray has imported this
    run = Run(**config["run"])
    source = rank_log(ray.train.get_context().get_world_rank())
    with shipped_output(open_store(run.store_url), run.keys.attempt(run.attempt), source) as end_log:
        world = World.of_process_group(ray.train.torch.get_device())
        poller = SignalPoller(config["signals"]) if world.is_first else None
        drains = _DrainNotices()

        def poll_requests() -> RunRequests:
            requests = RunRequests(checkpoint=drains.has_news())
            return requests | poller.new_requests() if poller else requests

        work = WORK[config["kind"]]
        return returned(lambda: work(run, world, poll_requests=poll_requests, on_hang=end_log), world)


def returned(work: Callable[[], Ending], world: World) -> dict[str, Any]:
    """What a worker lets Ray know of its work: how it ended, or what a worker that is alone refuses.

    Ray repeats whatever raises, hours of it, to have it refused again. Where there are several workers they raise: Ray
    then ends those that would wait for the one.
    """
    try:
        return asdict(work())
    except (DatasetError, ForeignCheckpointError, SpecError) as refusal:
        if world.size > 1:
            raise
        return {_REFUSAL: refusal}


class _DrainNotices:
    """Nodes of this group that Ray is about to lose: a spot instance, or `ray drain-node`.

    Ray restarts the group elsewhere at the node's deadline, without counting it as a failure.
    """

    def __init__(self) -> None:
        self._known: set[str] = set()

    def has_news(self) -> bool:
        """Whether this worker has been told of one more than before.

        Ray tells each on its own. `ray.train.get_preemption_info` would add a barrier of all at one actor, whose errors
        end the group, and which many workers wait long for; they agree on what any of them has heard anyway.
        """
        info = get_train_context().preemption_context.preemption_info
        nodes = set(info.preempted_node_ids) if info else set()
        is_news = not nodes <= self._known
        self._known |= nodes
        return is_news


def _uses_gpus(compute: Workers) -> bool:
    return compute.accelerator == "gpu"


def _scaling(compute: Workers) -> ScalingConfig:
    least = compute.least_workers
    return ScalingConfig(
        num_workers=compute.workers if least == compute.workers else (least, compute.workers),
        use_gpu=_uses_gpus(compute),
        elastic_resize_monitor_interval_s=_RESIZE_SECONDS,
    )


def _cause(error: ray.train.TrainingFailedError, why_hung: Callable[[int], str | None]) -> Exception:
    """What a worker's code raised, or that workers were lost: the others' broken connections are only its echo.

    Or that there were none, and the job was to leave, or none with a GPU: Ray Train wraps what its controller's
    callbacks raise.
    `why_hung` tells of a lost worker's rank why its watchdog has ended it, if it has.
    """
    if isinstance(raised := getattr(error, "controller_failure", None), LeftWaitingError | WorkersLostError):
        return raised
    failures: dict[int, Exception] = dict(sorted(getattr(error, "worker_failures", {}).items()))
    if too_large := next(filter(is_out_of_memory, failures.values()), None):
        return too_large
    lost = [rank for rank, failure in failures.items() if isinstance(failure, RayError | RayTrainError)]
    if failures and not lost:
        own = (failure for failure in failures.values() if not is_broken_connection(failure))
        return next(own, failures[min(failures)])
    if hung := {rank: why for rank in sorted(lost) if (why := why_hung(rank))}:
        return WorkersLostError(
            f"{hung[min(hung)]}, so worker {' and '.join(map(str, hung))} ended; "
            f"what each thread was doing is at the end of the log {' and '.join(map(rank_log, hung))}"
        )
    who = f"worker {' and '.join(map(str, sorted(lost)))} died; " if lost else ""
    return WorkersLostError(f"{who}{' '.join(str(error).split())[:500]}")
