"""A job from claim to outcome, on Ray or in processes that are already there."""

import signal
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from threading import Event
from types import FrameType
from typing import TypeVar, cast

import structlog
from pydantic import ValidationError

from workers.contract.keys import DRIVER_LOG, rank_log
from workers.contract.records import Outcome, Progress, Reason
from workers.contract.spec import TrainSpec, sharing_problems
from workers.environment import cache_folder, imports_to_stay, keep_ray_logs_plain
from workers.jobs.attempt import Job, claim_attempt, conclude, known_of, place_spec
from workers.jobs.diagnosis import diagnosed
from workers.jobs.failures import LeftEarlyError, LeftWaitingError, UsageError
from workers.jobs.kinds import WORK, prepare
from workers.storage.errors import STORE_ERRORS
from workers.tracking.output import shipped_output
from workers.tracking.redaction import Redaction
from workers.training.backend import code_digest
from workers.training.run import Ending, Run, RunRequests
from workers.training.world import World

T = TypeVar("T")
log = structlog.get_logger()


def run_on_ray(job: Job, attempt: int | None, stop: Event) -> Outcome:
    """Be the driver of a Ray job: prepare here, work in Ray Train's workers.

    Raises:
        ClaimRefusedError: somebody else runs this attempt.
        UsageError: the store holds another job of this name.
    """
    keep_ray_logs_plain()
    with imports_to_stay():  # seconds; elsewhere no Ray is needed
        from workers.jobs.ray_group import connect_to_ray, run_group

    number = _begin(job, attempt)
    with shipped_output(job.open_store(), job.keys.attempt(number), DRIVER_LOG):
        log.info("attempt.claimed", job_id=job.job_id, attempt=number, store=job.store_url)
        connect_to_ray()
        set_on_signals(stop)  # after Ray, which installs its own handlers when it connects
        outcome = _outcome_of(job, number, lambda: run_group(_prepared(job, number, stop), job.spec, stop))
    conclude(job, number, outcome)  # the last that is written: the log is whole by now
    return outcome


def run_here(job: Job, attempt: int | None, stop: Event) -> Outcome:
    """Run a job in this process, or in this and its peers if torchrun started them.

    Raises:
        ClaimRefusedError: somebody else runs this attempt.
        UsageError: the store holds another job of this name, or this machine cannot run the spec.
    """
    set_on_signals(stop)
    code_digest()  # now, of what has just been imported: it may be hours until it is asked for
    try:
        world = World.from_environment(job.spec.compute)
    except ValueError as error:
        raise UsageError(str(error)) from None
    try:
        return _run_in(world, job, attempt, stop)
    finally:
        world.leave()


def set_on_signals(stop: Event) -> None:
    """Set it on SIGTERM or Ctrl-C, so that workers leave within two seconds or so; a second Ctrl-C ends the process.

    Another SIGTERM says nothing new: Slurm sends one to every process of a step, and torchrun passes its own on.
    """

    def on_signal(number: int, frame: FrameType | None) -> None:  # noqa: ARG001 - signal's signature
        if number == signal.SIGINT:
            signal.signal(number, signal.SIG_DFL)
        stop.set()

    signal.signal(signal.SIGTERM, on_signal)
    signal.signal(signal.SIGINT, on_signal)


def _run_in(world: World, job: Job, attempt: int | None, stop: Event) -> Outcome:
    if isinstance(job.spec, TrainSpec) and (problems := sharing_problems(job.spec, world.size)):
        raise UsageError(f"{world.size} processes cannot share this job: {'; '.join(map(str, problems))}")
    number = _decided_by_first(world, lambda: _begin(job, attempt))
    source = DRIVER_LOG if world.is_first else rank_log(world.rank)

    with shipped_output(job.open_store(), job.keys.attempt(number), source) as end_log:

        def body() -> Ending:
            run = _decided_by_first(world, lambda: _prepared(job, number, stop))
            work = WORK[job.spec.kind]
            return work(run, world, poll_requests=lambda: RunRequests(stop=stop.is_set()), on_hang=end_log)

        if world.is_first:
            log.info("attempt.claimed", job_id=job.job_id, attempt=number, store=job.store_url)
        outcome = _outcome_of(job, number, body)
    if world.is_first:
        conclude(job, number, outcome)
    return outcome


def _begin(job: Job, attempt: int | None) -> int:
    try:
        place_spec(job)
        number = claim_attempt(job, attempt)
    except STORE_ERRORS as error:
        raise UsageError(f"cannot use the store {job.store_url}: {error}") from None
    return number


def _prepared(job: Job, attempt: int, stop: Event) -> Run:
    """All that can be done, and found wrong, before any worker starts."""

    def go_on(*_: object) -> None:
        if stop.is_set():
            raise LeftEarlyError

    store = job.open_store()
    prepare(job.spec, job.keys, store, on_bytes=go_on)
    name, tags = known_of(store, job.keys)
    return Run(job.store_url, job.job_id, attempt, str(cache_folder()), name, tags)


@dataclass(frozen=True, slots=True)
class _Raised:
    error: Exception


def _decided_by_first(world: World, decide: Callable[[], T]) -> T:
    """Let the first process decide, and all of them have its result, or raise its error."""
    decision: T | _Raised | None = None
    if world.is_first:
        try:
            decision = decide()
        except Exception as error:  # noqa: BLE001 - raised again below, everywhere
            decision = _Raised(error)
    decision = world.broadcast_object(decision)
    if isinstance(decision, _Raised):
        raise decision.error
    return cast("T", decision)


def _outcome_of(job: Job, attempt: int, body: Callable[[], Ending]) -> Outcome:
    """Run a job to its end, whatever end that is, and put it in the words of the contract."""
    try:
        ending = body()
    except LeftEarlyError:
        message = "asked to stop while files were fetched or imported; nothing of it is kept"
        ending = Ending(images_seen=0, stopped=True, message=message)
    except LeftWaitingError:
        message = "asked to stop while it waited for room for its workers"
        ending = _at_last_word(job, attempt, Ending(images_seen=0, stopped=True, message=message))
    except Exception as error:
        reason, message = diagnosed(error, pass_images=job.spec.pass_images, kind=job.spec.kind)
        log.error("job.failed", reason=reason.value, error=message, exc_info=reason is Reason.INTERNAL)
        # Failing at the same place again and again is not bad luck.
        ending = _at_last_word(job, attempt, Ending(images_seen=0, reason=reason, message=message))
    outcome = _in_words(ending)
    log.info("attempt.ended", status=outcome.status, images_seen=outcome.images_seen)
    return outcome


def _at_last_word(job: Job, attempt: int, ending: Ending) -> Ending:
    """With how far the attempt had come, and its MLflow run, as its workers have told last."""
    try:
        last = Progress.model_validate_json(job.open_store().get(job.keys.attempt(attempt).progress))
    except (*STORE_ERRORS, ValidationError):
        return ending
    return replace(ending, images_seen=last.images_seen, mlflow_run_id=last.mlflow_run_id)


def _in_words(ending: Ending) -> Outcome:
    return Outcome(
        status=ending.status,
        reason=ending.reason,
        message=Redaction.of_environment()(ending.message),
        images_seen=ending.images_seen,
        mlflow_run_id=ending.mlflow_run_id,
        ended_at=datetime.now(UTC),
    )
