"""What a worker has to say: small JSON records it leaves in the object store."""

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field, Strict

from workers.contract.data import Digest
from workers.contract.document import Document

Timestamp = Annotated[datetime, Strict(False)]


class Claim(Document):
    """Who runs an attempt. Written once, before anything else; whoever finds one leaves."""

    host: str
    pid: int
    claimed_at: Timestamp


class Progress(Document):
    """Rank 0's latest word, rewritten every few seconds: a heartbeat and what `cdm watch` shows."""

    phase: Literal["preparing", "training", "checkpointing"]
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
    peak_memory_bytes: Annotated[
        int | None, Field(description="Most that PyTorch held of the GPU at once, or the process of main memory")
    ] = None


class Reason(StrEnum):
    """Why an attempt did not succeed; a closed list."""

    INVALID_SPEC = "invalid_spec"
    CLUSTER_TOO_SMALL = "cluster_too_small"
    DATA_ERROR = "data_error"
    NON_FINITE_LOSS = "non_finite_loss"
    OUT_OF_MEMORY = "out_of_memory"
    STORAGE_ERROR = "storage_error"
    WORKERS_LOST = "workers_lost"
    INTERNAL = "internal"


class Outcome(Document):
    """The last record of an attempt. `stopped` = it was asked to leave and left a checkpoint behind."""

    status: Literal["succeeded", "stopped", "failed"]
    reason: Annotated[Reason | None, Strict(False)]
    message: str
    images_seen: int
    mlflow_run_id: str | None
    ended_at: Timestamp


class Origin(Document):
    """Where a fork starts: a checkpoint of another job in the same store. Written once, before the first attempt."""

    job_id: str
    images_seen: int
    attempt: int


class CheckpointFile(Document):
    """One file of a checkpoint."""

    name: str
    num_bytes: int
    sha256: Digest


class CheckpointManifest(Document):
    """Written after all files of a checkpoint; without it, the checkpoint does not exist."""

    images_seen: int
    attempt: int
    spec_sha256: Digest
    created_at: Timestamp
    files: Annotated[tuple[CheckpointFile, ...], Strict(False)]
