"""What PyTorch computes on, and how: precision, repeatability, compilation."""

import hashlib
import os
import platform
import resource
import sys
from collections.abc import Callable, Iterable
from functools import cache
from importlib.metadata import version
from pathlib import Path

import structlog
import torch

import workers
from workers.contract.compute import Workers
from workers.diffusion.denoiser import Denoiser
from workers.logs import in_one_line
from workers.training.world import World

log = structlog.get_logger()
_CPUS = Path("/proc/cpuinfo")
_DIGITS = 12


def configure_backend(compute: Workers) -> None:
    """Set what is a matter of the whole process: once, before anything is built."""
    wants_bfloat16 = compute.accelerator == "gpu" and compute.precision == "bfloat16"
    if wants_bfloat16 and not torch.cuda.is_bf16_supported(including_emulation=False):
        log.warning("bfloat16.emulated", mend="this GPU has no bfloat16 and is slow at it: set compute.precision")
    torch.backends.cuda.matmul.allow_tf32 = compute.tf32
    torch.backends.cudnn.allow_tf32 = compute.tf32
    torch.backends.cudnn.benchmark = not compute.deterministic  # shapes are static: the fastest algorithm is found once
    if compute.deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS reads it when it is first used
    torch.use_deterministic_algorithms(compute.deterministic)


def compile_networks(denoisers: Iterable[Denoiser], trial: Callable[[], None], world: World) -> None:
    """Compile the networks and try them on `trial`; where that fails in any process, say so and go on without in all.

    One that is not compiled would keep the others waiting in every step, and round in other places than they do.

    Raises:
        Exception: without, `trial` fails as well, for example for want of memory.
    """
    denoisers = tuple(denoisers)
    for denoiser in denoisers:
        denoiser.compiled = torch.compile(denoiser.network.forward, dynamic=False)
    failure = _failure(trial)
    if not world.any(failure is not None):
        return
    if failure or world.is_first:
        log.warning("compile.failed", error=failure or "in another process", goes_on="uncompiled")
    for denoiser in denoisers:
        denoiser.compiled = None
    trial()


def device_name(device: torch.device) -> str:
    """The model of the GPU, or of the CPU: throughput and memory mean something for one model only."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else _cpu_name()


def versions(device: torch.device) -> dict[str, str]:
    """Of the libraries that compute on it, of the code that does, and what it is itself."""
    return {
        "torch": torch.__version__,
        "cdm-train": version("cdm-train"),
        "code": code_digest(),
        "python": platform.python_version(),
        "device": device_name(device),
    }


@cache
def code_digest() -> str:
    """Of the files of this package, as they are when it is first asked for: other code than this has another.

    A release says nothing of code that somebody changes for an experiment. It takes some milliseconds.
    """
    return _digest_of(Path(workers.__file__).parent)


def peak_memory_bytes(device: torch.device) -> int:
    """The most that PyTorch has held of the GPU at once since training began, or this process of main memory.

    What it keeps for later counts as well. Nothing is waited for.
    """
    if device.type == "cuda":
        return torch.cuda.max_memory_reserved(device)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak  # bytes there, KiB on Linux


def _digest_of(package: Path) -> str:
    whole = hashlib.sha256()
    for file in sorted(file for file in package.rglob("*.py") if file.is_file()):  # editors lock with dangling links
        whole.update(
            f"{file.relative_to(package).as_posix()} {hashlib.sha256(file.read_bytes()).hexdigest()}\n".encode()
        )
    return whole.hexdigest()[:_DIGITS]


def _cpu_name() -> str:
    lines = _CPUS.read_text().splitlines() if _CPUS.exists() else []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, "") or platform.processor() or platform.machine()


def _failure(trial: Callable[[], None]) -> str | None:
    """In words alone: the error itself would hold what the trial had in memory."""
    try:
        trial()
    except Exception as error:  # noqa: BLE001 - compilers fail in all ways there are, and none is worth a run
        return in_one_line(error)
    return None
