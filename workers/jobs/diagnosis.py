"""Why a job failed, in the words of the contract."""

from collections.abc import Iterator

import torch
import torch.distributed as dist

from workers.contract.document import SpecError
from workers.contract.keys import AttemptKeys, rank_log
from workers.contract.records import Reason
from workers.data import DatasetError
from workers.jobs.failures import WorkersLostError
from workers.logs import in_one_line
from workers.storage import ObjectStore
from workers.storage.errors import STORE_ERRORS, refusal
from workers.training.checkpoint import DamagedCheckpointError
from workers.training.watchdog import reason_of
from workers.training.writer import CheckpointNotTakenError

_OUT_OF_MEMORY = (
    " out of memory. Tried to allocate",
    "torch.OutOfMemoryError",
    "DefaultCPUAllocator: ",
    "Cuda failure 2 'out of memory'",  # NCCL, to which PyTorch has left nothing
    "Failed to CUDA calloc",  # as it says further on
    "CUDA error: out of memory",  # what is not PyTorch's allocator's: a context, a graph, page-locked memory
    "_STATUS_ALLOC_FAILED",  # cuBLAS and cuDNN
)
_NO_GPU = "No CUDA GPUs are available"  # one that has fallen off the bus
# What CUDA says of a GPU that has failed; all else that it refuses (an address, an argument) fails on any GPU.
_FAILED_GPU = ("ECC error", "unspecified launch failure", "unknown error", "hardware stack error", "NVLink")
_BROKEN_CONNECTION = ("Connection closed by peer", "Connection reset by peer", "Timed out waiting", "NCCL", "gloo")
_MENDS = {"train": "lower compute.microbatch_images or batch_images, or add compute.workers"}
_MEND = "lower pass_images"


def diagnosed(error: Exception, *, pass_images: int, kind: str) -> tuple[Reason, str]:
    """The reason behind an exception, and what to tell the user, whose job holds `pass_images` at a time."""
    match error:
        case DatasetError() | DamagedCheckpointError():
            return Reason.DATA_ERROR, str(error)
        case SpecError():
            return Reason.INVALID_SPEC, str(error)
        case WorkersLostError():
            return Reason.WORKERS_LOST, str(error)
        case CheckpointNotTakenError():
            return Reason.STORAGE_ERROR, str(error)
        case _ if said := refusal(error):
            return Reason.STORAGE_ERROR, said
        case _ if is_out_of_memory(error):
            mend = _MENDS.get(kind, _MEND)
            return Reason.OUT_OF_MEMORY, f"{pass_images} images at a time do not fit: {mend}; {in_one_line(error)}"
        case _ if _is_failed_gpu(error):
            return Reason.WORKERS_LOST, f"a GPU has failed: {in_one_line(error)}"
        case _ if is_broken_connection(error):
            return Reason.WORKERS_LOST, f"a worker has lost the others: {in_one_line(error)}"
        case _:
            return Reason.INTERNAL, f"{type(error).__name__}: {error}"


def is_out_of_memory(error: BaseException) -> bool:
    """Whether training did not fit into the memory of a GPU or of this process, however the engine has wrapped it."""
    return any(
        isinstance(cause, torch.OutOfMemoryError | MemoryError) or any(words in str(cause) for words in _OUT_OF_MEMORY)
        for cause in _causes(error)
    )


def is_broken_connection(error: BaseException) -> bool:
    """Whether a process failed because it heard no more of the others: they failed, or their network did."""
    return isinstance(error, dist.DistError) or (
        isinstance(error, RuntimeError) and any(words in str(error) for words in _BROKEN_CONNECTION)
    )


def why_hung(store: ObjectStore, keys: AttemptKeys, rank: int) -> str | None:
    """Why its watchdog has ended a worker, by the end of its log; None if none has, as far as the store can tell."""
    try:
        chunks = store.list(keys.log_stream(rank_log(rank)))
        return reason_of(store.get(chunks[-1]).decode(errors="replace")) if chunks else None
    except STORE_ERRORS:
        return None


def _is_failed_gpu(error: BaseException) -> bool:
    """Whether CUDA gave up on a GPU (memory that ECC cannot correct, an Xid), which another one may not do."""
    return any(
        _NO_GPU in str(cause)
        or (isinstance(cause, torch.AcceleratorError) and any(words in str(cause) for words in _FAILED_GPU))
        for cause in _causes(error)
    )


def _causes(error: BaseException) -> Iterator[BaseException]:
    """An exception and what it came from; Ray keeps the latter in `cause`."""
    seen: set[int] = set()
    following: object = error
    while isinstance(following, BaseException) and id(following) not in seen:
        seen.add(id(following))
        yield following
        following = getattr(following, "cause", None) or following.__cause__
