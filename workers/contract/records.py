"""What a worker has to say: small JSON records it leaves in the object store."""

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Literal, get_args

from pydantic import Field, Strict, ValidationInfo, field_validator

from workers.contract.data import Digest
from workers.contract.document import LENIENT, Document
from workers.contract.keys import JobKeys

FILE_NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"  # of what is handed over to be saved: it leads into no other folder
Timestamp = Annotated[datetime, Strict(False)]


class Claim(Document):
    """Who runs an attempt. Written once, before anything else; whoever finds one leaves."""

    host: str
    pid: int
    claimed_at: Timestamp


class TimeBreakdown(Document):
    """What the seconds of an attempt went for, restarts included; times `num_workers` they are worker-seconds."""

    useful: Annotated[float, Field(description="Training on images for the first time")] = 0.0
    recomputed: Annotated[float, Field(description="Training again on what was lost since a checkpoint")] = 0.0
    preparing: Annotated[float, Field(description="Until the first step: images, network, checkpoint")] = 0.0
    restarting: Annotated[float, Field(description="From the last sign of workers that died to the next ones")] = 0.0
    waiting: Annotated[float, Field(description="Of that, for room on the cluster, once that was known")] = 0.0
    checkpointing: Annotated[float, Field(description="Waiting for a checkpoint; writing it takes place beside")] = 0.0
    sampling: Annotated[float, Field(description="Drawing sample grids")] = 0.0


ResumeVerdict = Literal["bit_exact", "within_tolerance", "diverged", "nothing_to_compare"]


class Resume(Document):
    """How losses after a resume compare with those recorded, before the interruption, of the same images."""

    images_seen: Annotated[int, Field(description="Of the checkpoint that training went on from")]
    verdict: Annotated[
        ResumeVerdict,
        Field(
            description="within_tolerance: as far as another order of adding up explains, relatively 0.001; in "
            "bfloat16 or TF32, unless deterministic, loss/dsm alone is compared, to 0.005"
        ),
    ]
    compared_rows: int
    largest_difference: Annotated[float, Field(description="Relative, over all that is compared")]
    other_device: Annotated[
        str | None,
        Field(
            description="Model of the GPU that these images were trained on before, if another: it draws other noise "
            "from the same seed, so losses that differ say nothing"
        ),
    ] = None
    other_code: Annotated[
        str | None,
        Field(
            description="Digest of the code that the checkpoint, or what was trained beyond it, is of, if it is not "
            "the code that goes on; losses that differ may be due to it"
        ),
    ] = None


class DeliveryDelay(Document):
    """Something that tracking cannot deliver at present."""

    waiting: Annotated[
        int, Field(description="Rows of metrics, pictures and the like; they wait in the worker's memory")
    ]
    since: Timestamp


Phase = Literal["preparing", "training", "checkpointing", "waiting", "sampling", "evaluating", "importing"]


class Progress(Document):
    """Rank 0's latest word, rewritten every few seconds: a heartbeat and what `cdm watch` shows.

    While there are no workers for want of room, the driver's (`waiting`).
    """

    phase: Phase
    images_seen: int
    total_images: int
    images_per_second: float
    eta_seconds: float | None
    losses: dict[str, float]
    last_checkpoint_images: int | None
    num_workers: int
    mlflow_run_id: str | None
    updated_at: Timestamp
    device: Annotated[str | None, Field(description="Model of its GPU, or of its CPU")] = None
    versions: Annotated[
        dict[str, str], Field(description="Of the libraries that its first worker computes with, and its device")
    ] = Field(default_factory=dict)
    codes: Annotated[
        tuple[str, ...], Strict(False), Field(description="Digests of the code that has trained in this attempt so far")
    ] = ()
    num_parameters: Annotated[int | None, Field(description="Of the network that is trained")] = None
    peak_memory_bytes: Annotated[
        int | None, Field(description="Most that PyTorch held of the GPU at once, or the process of main memory")
    ] = None
    ledger: TimeBreakdown = TimeBreakdown()
    ledger_at: Annotated[Timestamp | None, Field(description="Up to when it accounts for; null: `updated_at`")] = None
    resume: Annotated[Resume | None, Field(description="Since the last start from a checkpoint")] = None
    tracking_behind: Annotated[
        dict[str, DeliveryDelay],
        Field(
            description="Who has taken nothing for a minute: `mlflow`, `mlflow_pictures` (MLflow, of pictures), or the "
            "`journal` in the store"
        ),
    ] = Field(default_factory=dict)
    restarts: Annotated[int, Field(description="How often workers of this attempt were begun again")] = 0
    waiting_for: Annotated[str | None, Field(description="What the cluster lacks, in words, while it waits")] = None
    advised_checkpoint_images: Annotated[
        int | None,
        Field(
            description="Between two checkpoints for the least time lost, by what they and the sample grids cost and "
            "how often the job was interrupted (Young/Daly); null before one is measured"
        ),
    ] = None

    @field_validator("phase", mode="before")
    @classmethod
    def _of_another_release(cls, phase: object, info: ValidationInfo) -> object:
        """A word that is not known is a sign of life all the same: of one that is busy, and need see no new image."""
        is_new = info.context is LENIENT and isinstance(phase, str) and phase not in get_args(Phase)
        return "checkpointing" if is_new else phase


class Reason(StrEnum):
    """Why an attempt did not succeed; a closed list."""

    INVALID_SPEC = "invalid_spec"
    DATA_ERROR = "data_error"
    NON_FINITE_LOSS = "non_finite_loss"
    OUT_OF_MEMORY = "out_of_memory"
    STORAGE_ERROR = "storage_error"
    WORKERS_LOST = "workers_lost"
    MIXED_CODE = "mixed_code"
    INTERNAL = "internal"

    @classmethod
    def _missing_(cls, value: object) -> "Reason | None":
        """A word of another release: its message says what happened, and the attempt has failed all the same."""
        return cls.INTERNAL if isinstance(value, str) else None


OutcomeStatus = Literal["succeeded", "stopped", "failed"]


class Outcome(Document):
    """The last record of an attempt. `stopped` = it was asked to leave and left a checkpoint behind."""

    status: OutcomeStatus
    reason: Annotated[Reason | None, Strict(False)]
    message: str
    images_seen: int
    mlflow_run_id: str | None
    ended_at: Timestamp


class CheckpointRef(Document):
    """Where a fork starts: a checkpoint of another job in the same store. Written once, before the first attempt."""

    job_id: str
    images_seen: int
    attempt: int

    @property
    def folder(self) -> str:
        """Where its files lie."""
        return JobKeys(self.job_id).checkpoint(self.images_seen, self.attempt)


class CheckpointFile(Document):
    """One file of a checkpoint."""

    name: Annotated[str, Field(pattern=FILE_NAME, max_length=100)]
    num_bytes: int
    sha256: Digest


class CheckpointManifest(Document):
    """Written after all files of a checkpoint; without it, the checkpoint does not exist."""

    images_seen: int
    attempt: int
    spec_sha256: Digest
    created_at: Timestamp
    files: Annotated[tuple[CheckpointFile, ...], Strict(False)]
    code: Annotated[str | None, Field(description="Digest of the code that wrote it")] = None
    seal: Annotated[Digest | None, Field(description="sha256 of this document without it")] = None
