"""What a worker takes from its process's environment, beside the standard AWS_*, MLFLOW_* and RAY_* variables."""

import gc
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def cache_folder() -> Path:
    """Where this machine keeps copies of image sets, best on its own disk: CDM_CACHE, or in the user's cache."""
    chosen = os.environ.get("CDM_CACHE")
    return Path(chosen) if chosen else Path.home() / ".cache" / "cdm-train"


def may_go_inside() -> bool:
    """Whether what users name may be fetched from loopback and private addresses: CDM_ALLOW_PRIVATE_ADDRESSES."""
    return os.environ.get("CDM_ALLOW_PRIVATE_ADDRESSES", "").lower() in {"1", "true", "yes"}


def max_download_bytes() -> int:
    """How large a file may be that users name by URL: CDM_MAX_DOWNLOAD_BYTES."""
    return int(os.environ.get("CDM_MAX_DOWNLOAD_BYTES", 200 << 30))


def keep_ray_logs_plain() -> None:
    """Ask Ray to forward its workers' lines as they are: no colour codes, none left out or doubled.

    Call before importing Ray.
    """
    os.environ.setdefault("RAY_COLOR_PREFIX", "0")
    os.environ.setdefault("RAY_DEDUP_LOGS", "0")
    os.environ.setdefault("RAY_TRAIN_ENABLE_PRINT_PATCH", "0")  # else a print comes out twice, once as a log record


@contextmanager
def imports_to_stay() -> Iterator[None]:
    """Inside, what PyTorch and Ray consist of is not searched for garbage while it comes, nor ever after.

    There are 300,000 objects of it: searching takes a fifth of the time of the imports, and .2 s each time later.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()
