"""On what a benchmark ran."""

import os
from datetime import UTC, datetime
from pathlib import Path

import torch


def described() -> str:
    """Date, processor, cores this process may use, and versions, in one line of Markdown."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    today = datetime.now(UTC).strftime("%Y-%m-%d")
    gpu = f" {torch.cuda.get_device_name()}," if torch.cuda.is_available() else ""
    return f"Measured on {today}:{gpu} {_processor()}, {cores} cores, PyTorch {torch.__version__}."


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown CPU")
