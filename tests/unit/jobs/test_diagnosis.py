"""Which reason a failure has in the words of the contract."""

import errno

import pytest
import torch
import torch.distributed as dist
from ray.exceptions import RayTaskError
from ray.train.v2._internal.exceptions import UserExceptionWithTraceback, WorkerHealthCheckFailedError
from ray.train.v2.api.exceptions import WorkerGroupError

from tests.support.failures import cause_of
from workers.contract.document import SpecError
from workers.contract.records import Reason
from workers.jobs.diagnosis import diagnosed
from workers.jobs.failures import WorkersLostError
from workers.training.checkpoint import DamagedCheckpointError

OUT_OF_MEMORY = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nSee documentation")
NCCL_LACKS_MEMORY = (
    "NCCL error in: NCCLUtils.cpp:94, unhandled cuda error (run with NCCL_DEBUG=INFO for details)\n"
    "ncclUnhandledCudaError: Call to CUDA function failed.\nLast error:\n"
)
TIMED_OUT = RuntimeError("[unbound_buffer.cc:81] Timed out waiting 600000ms for recv operation to complete")


def told_by(error: Exception) -> Exception:
    try:
        raise RuntimeError("step failed") from error
    except RuntimeError as wrapped:
        return wrapped


@pytest.mark.parametrize(
    "error",
    [
        OUT_OF_MEMORY,
        MemoryError(),
        RuntimeError("[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory"),
        told_by(OUT_OF_MEMORY),
        RayTaskError("train", "Traceback", OUT_OF_MEMORY),
        UserExceptionWithTraceback(OUT_OF_MEMORY, "torch.OutOfMemoryError: CUDA out of memory."),
        dist.DistBackendError(NCCL_LACKS_MEMORY + "Cuda failure 2 'out of memory'"),
        dist.DistBackendError(NCCL_LACKS_MEMORY + "Failed to CUDA calloc 6291456 bytes"),
        torch.AcceleratorError("CUDA error: out of memory\nSearch for `cudaErrorMemoryAllocation'"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
    ],
    ids=[
        "GPU",
        "Python",
        "CPU",
        "caused",
        "task of Ray",
        "Ray Train",
        "NCCL",
        "NCCL's calloc",
        "CUDA",
        "cuBLAS",
        "cuDNN",
    ],
)
def test_memory_that_does_not_suffice_is_named_with_the_mend(error: Exception) -> None:
    reason, message = diagnosed(error, pass_images=64, kind="train")

    assert reason is Reason.OUT_OF_MEMORY
    assert message.startswith("64 images at a time do not fit: lower compute.microbatch_images")
    assert "\n" not in message


@pytest.mark.parametrize(
    "error",
    [
        TIMED_OUT,
        dist.DistBackendError("NCCL communicator was aborted on rank 1"),
        dist.DistBackendError(NCCL_LACKS_MEMORY + "Cuda failure 999 'unknown error'"),
        RuntimeError("[gloo/transport/tcp/pair.cc:534] Connection closed by peer [127.0.0.1]:4242"),
        WorkersLostError("worker 1 died"),
    ],
)
def test_workers_that_no_longer_hear_each_other_are_lost(error: Exception) -> None:
    assert diagnosed(error, pass_images=64, kind="train")[0] is Reason.WORKERS_LOST


@pytest.mark.parametrize(
    "error",
    [
        torch.AcceleratorError("CUDA error: uncorrectable ECC error encountered"),
        torch.AcceleratorError("CUDA error: unspecified launch failure"),
        told_by(torch.AcceleratorError("CUDA error: unknown error")),
        RuntimeError("No CUDA GPUs are available"),
    ],
    ids=["ECC", "launch", "caused", "none left"],
)
def test_a_gpu_that_fails_is_the_hardwares_fault(error: Exception) -> None:
    reason, message = diagnosed(error, pass_images=64, kind="train")

    assert reason is Reason.WORKERS_LOST
    assert message.startswith("a GPU has failed: ")


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (SpecError("is of another network", field="network"), Reason.INVALID_SPEC),
        (DamagedCheckpointError("network.safetensors is missing"), Reason.DATA_ERROR),
        (OSError(errno.ENOSPC, "No space left on device", "/store/jobs"), Reason.STORAGE_ERROR),
        (OSError(errno.EDQUOT, "Disk quota exceeded", "/store/jobs"), Reason.STORAGE_ERROR),
        (OSError(errno.EIO, "Input/output error"), Reason.INTERNAL),
        (ValueError("Connection closed by peer"), Reason.INTERNAL),
        (RuntimeError("shapes differ"), Reason.INTERNAL),
        (torch.AcceleratorError("CUDA error: device-side assert triggered"), Reason.INTERNAL),
        (torch.AcceleratorError("CUDA error: an illegal memory access was encountered"), Reason.INTERNAL),
        (torch.AcceleratorError("CUDA error: invalid configuration argument"), Reason.INTERNAL),
    ],
)
def test_other_failures_keep_their_reason(error: Exception, reason: Reason) -> None:
    assert diagnosed(error, pass_images=64, kind="train")[0] is reason


def test_a_worker_without_memory_is_the_cause_whatever_became_of_the_others() -> None:
    dead = WorkerHealthCheckFailedError("actor died", failure=RuntimeError("gone"))

    assert cause_of(WorkerGroupError("failed", {0: TIMED_OUT, 1: OUT_OF_MEMORY, 2: dead})) is OUT_OF_MEMORY


def test_what_one_worker_raised_is_the_cause_and_the_others_broken_connections_are_its_echo() -> None:
    raised = ValueError("in rank 1")

    assert cause_of(WorkerGroupError("failed", {0: TIMED_OUT, 1: raised})) is raised
    assert cause_of(WorkerGroupError("failed", {1: TIMED_OUT, 0: TIMED_OUT})) is TIMED_OUT
