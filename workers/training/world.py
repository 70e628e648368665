"""The processes that train together: one, or several joined by torch.distributed."""

import os
import socket
from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from inspect import signature
from typing import Any, Literal, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from workers.contract.compute import Workers
from workers.logs import in_one_line

T = TypeVar("T")

# The first process may import a large image set while the others wait for what it says.
_DECISION_PATIENCE = timedelta(days=1)
_COLLECTIVE_SECONDS = 600


@dataclass(frozen=True, slots=True)
class World:
    """This process's place among `size` equal ones. With one, nothing is communicated."""

    rank: int
    size: int
    device: torch.device
    decisions: dist.ProcessGroup | None = None

    @classmethod
    def alone(cls, device: torch.device) -> "World":
        return cls(0, 1, device)

    @classmethod
    def of_process_group(cls, device: torch.device) -> "World":
        """The default process group, set up by torchrun's environment or by Ray Train."""
        patient = dist.new_group(backend="gloo", timeout=_DECISION_PATIENCE)
        return cls(dist.get_rank(), dist.get_world_size(), device, patient)

    @classmethod
    def from_environment(cls, compute: Workers) -> "World":
        """Join the other processes if torchrun started this one, else be alone.

        Raises:
            ValueError: a GPU is asked for and there is none for this process; or `srun` started several, not torchrun.
        """
        joins = "RANK" in os.environ
        if not joins:
            _refuse_strangers()
        device = local_device(compute.accelerator)
        if not joins:
            return cls.alone(device)
        backend = "nccl" if compute.accelerator == "gpu" else "gloo"
        dist.init_process_group(backend, timeout=timedelta(seconds=collective_seconds(compute)))
        return cls.of_process_group(device)

    def leave(self) -> None:
        """Part from the others that `from_environment` joined; without it, threads of gloo may abort the exit.

        Ray parts the processes that it has joined.
        """
        if self.size > 1:
            dist.destroy_process_group()

    @property
    def is_first(self) -> bool:
        return self.rank == 0

    def wrap(self, module: nn.Module) -> nn.Module:
        """Average gradients over all processes in every backward pass, but for those inside `no_sync`."""
        if self.size == 1:
            return module
        # Buffers are constants, and equal; static_graph would gain nothing where every parameter is used in every pass.
        options: dict[str, Any] = {"gradient_as_bucket_view": True, _sync_buffers_option(): False}
        wrapped = DistributedDataParallel(module, **options)
        if self.device.type == "cuda":  # NCCL takes memory of its own for a first exchange of this kind and size
            self.all_reduce(torch.zeros(wrapped.bucket_bytes_cap // torch.float32.itemsize, device=self.device))
        return wrapped

    def no_sync(self, module: nn.Module) -> AbstractContextManager[None]:
        """Within, backward passes of a wrapped module add up gradients here and tell the others nothing."""
        no_sync: AbstractContextManager[None] = (
            module.no_sync() if isinstance(module, DistributedDataParallel) else nullcontext()
        )
        return no_sync

    def all_reduce(self, values: Tensor) -> Tensor:
        """Add a tensor up over all processes, in place, and return it."""
        if self.size > 1:
            dist.all_reduce(values)
        return values

    def all_gather(self, share: Tensor) -> Tensor:
        """Undo a strided split: item k of rank r comes to place k * size + r, on every process."""
        if self.size == 1:
            return share
        parts = [torch.empty_like(share) for _ in range(self.size)]
        dist.all_gather(parts, share.contiguous())
        return torch.stack(parts, dim=1).flatten(0, 1)

    def broadcast(self, tensors: Iterable[Tensor]) -> None:
        """Make tensors, which every process has alike, those of the first, in place."""
        if self.size == 1:
            return
        for tensor in tensors:
            sent = tensor.contiguous()  # NCCL and gloo take no other memory format
            dist.broadcast(sent, 0)
            tensor.copy_(sent)

    def any(self, mine: bool) -> bool:
        """Whether any process says so; every process calls this, and waits for the last, however late it is."""
        said = torch.tensor(float(mine))
        if self.size > 1:
            dist.all_reduce(said, group=self.decisions)
        return bool(said > 0)

    def barrier(self) -> None:
        """Wait for the last process, however late it is."""
        self.any(False)

    def broadcast_object(self, value: T) -> T:
        """What the first process says, on every process; any picklable value."""
        box = [value]
        if self.size > 1:
            dist.broadcast_object_list(box, group=self.decisions)
        return box[0]

    def all_gather_object(self, mine: T) -> list[T]:
        """What each process says, by rank, on every process; any picklable values."""
        said = [mine] * self.size
        if self.size > 1:
            dist.all_gather_object(said, mine, group=self.decisions)
        return said


def collective_seconds(compute: Workers) -> int:
    """How long processes wait for each other in a step: so long that their watchdogs are first."""
    return max(_COLLECTIVE_SECONDS, 2 * compute.hang_seconds)


def _sync_buffers_option() -> str:
    """PyTorch 2.13 has renamed it, and warns of the old name."""
    new, old = "forward_sync_buffers", "broadcast_buffers"
    return new if new in signature(DistributedDataParallel).parameters else old


def _refuse_strangers() -> None:
    """Several processes of one `srun` would each be alone, and take the job from each other."""
    tasks = int(os.environ.get("SLURM_STEP_NUM_TASKS", "1"))  # not SLURM_NTASKS, which a batch script alone has, too
    if tasks > 1 and "SLURM_PTY_PORT" not in os.environ:  # a shell of `srun --pty` is alone, whatever was asked for
        raise ValueError(
            f"srun has started {tasks} processes that do not train together: start torchrun, one task a node"
        )


def why_no_gpu() -> str | None:
    """Why PyTorch sees no GPU on this machine (its driver, or its own build), in one line; None if it sees one."""
    if torch.cuda.is_available():
        return None
    reason = "no reason is given"
    try:
        # It says what `is_available` keeps to itself: no driver is found, or it is too old.
        torch.cuda.init()  # type: ignore[no-untyped-call] # untyped in PyTorch
    except (AssertionError, RuntimeError) as error:
        reason = in_one_line(error)
    build = f"PyTorch {torch.__version__} (CUDA {torch.version.cuda or 'none'})"
    return f"{build} sees no GPU on {socket.gethostname()}: {reason}"


def local_device(accelerator: Literal["cpu", "gpu"]) -> torch.device:
    """This process's device.

    Raises:
        ValueError: a GPU is asked for and there is none for this process.
    """
    if accelerator == "cpu":
        return torch.device("cpu")
    if problem := why_no_gpu():
        raise ValueError(f"compute.accelerator: {problem}; set it to cpu, or run where there is one")
    number, num_gpus = int(os.environ.get("LOCAL_RANK", "0")), torch.cuda.device_count()
    if number >= num_gpus:
        raise ValueError(f"process {number} of this machine has no GPU, PyTorch sees {num_gpus}: start fewer processes")
    torch.cuda.set_device(number)
    return torch.device("cuda", torch.cuda.current_device())
