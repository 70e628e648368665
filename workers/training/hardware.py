"""What a process trains on, and how much of its memory it has needed."""

import platform
import resource
import sys
from importlib.metadata import version
from pathlib import Path

import torch

_CPUS = Path("/proc/cpuinfo")


def device_name(device: torch.device) -> str:
    """The model of the GPU, or of the CPU: throughput and memory mean something for one model only."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else _cpu_name()


def versions(device: torch.device) -> dict[str, str]:
    """Of the libraries that compute on it, and what it is itself."""
    return {
        "torch": torch.__version__,
        "cdm-train": version("cdm-train"),
        "python": platform.python_version(),
        "device": device_name(device),
    }


def peak_memory_bytes(device: torch.device) -> int:
    """The most that PyTorch has held of the GPU at once, or this process of main memory; waits for nothing."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak  # bytes there, KiB on Linux


def _cpu_name() -> str:
    lines = _CPUS.read_text().splitlines() if _CPUS.exists() else []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, "") or platform.processor() or platform.machine()
