"""Why jobs are where they are: closed lists. Of failures, whose fault it is and whether another attempt may help."""

from dataclasses import dataclass
from enum import StrEnum


class Blame(StrEnum):
    """Whose budget of retries a failure is taken from."""

    USER = "user"
    PLATFORM = "platform"
    HARDWARE = "hardware"


@dataclass(frozen=True, slots=True)
class Cause:
    """What is known of a reason. `meaning` is what docs/reasons.md says of it."""

    blame: Blame
    retryable: bool
    meaning: str


CAUSES: dict[str, Cause] = {
    # what a driver says of itself (workers/contract/records.py)
    "invalid_spec": Cause(Blame.USER, False, "the document does not fit the images, weights or machine it names"),
    "data_error": Cause(Blame.USER, False, "images cannot be read"),
    "non_finite_loss": Cause(Blame.USER, False, "the loss or its gradients stopped being numbers"),
    "out_of_memory": Cause(Blame.USER, False, "a step needs more memory than the accelerator has"),
    "internal": Cause(Blame.USER, True, "the training code raised an error"),
    "storage_error": Cause(Blame.PLATFORM, True, "the object store refused or did not answer"),
    "workers_lost": Cause(
        Blame.HARDWARE, True, "workers died, or their GPUs failed, more often than the document allows"
    ),
    "mixed_code": Cause(Blame.PLATFORM, False, "the workers of one group run different code"),
    # what the control plane finds
    "driver_lost": Cause(Blame.HARDWARE, True, "the driver ended without reporting an outcome"),
    "head_restarted": Cause(Blame.PLATFORM, True, "the engine restarted and does not know the attempt"),
    "stopped": Cause(Blame.PLATFORM, True, "something else stopped it"),
    "stalled": Cause(Blame.HARDWARE, True, "it ran, but made no progress"),
    "start_timeout": Cause(Blame.PLATFORM, True, "the engine took it and never started it"),
    "invalid_environment": Cause(Blame.PLATFORM, False, "the engine refused the submission"),
    "submission_conflict": Cause(Blame.PLATFORM, False, "the engine runs something else under the attempt's id"),
    "max_runtime_exceeded": Cause(Blame.USER, False, "it ran for as long as it may"),
    "poison": Cause(Blame.USER, False, "the same error occurred twice at the same point"),
    "retries_exhausted": Cause(Blame.PLATFORM, False, "too many attempts in a row were lost"),
}

# why a job is in a state that is no failure; why it waits in the queue, `queueing.BlockedReason` says, too
CIRCUMSTANCES: dict[str, str] = {
    "backend_down": "the engine does not answer, so nothing can be started",
    "preempted": "it made room for a job of higher priority",
    "worker_lost": "a worker died, and the group starts again within the attempt",
    "waiting_for_resources": "nodes are gone, and there is no room for its workers elsewhere",
    "rebuilt": "the database was lost, and the object store knows of this attempt",
}
