"""All parts of one stack."""

import importlib.util
import os
import shutil

from service.embedded import api, mlflow, ray, seaweedfs
from service.embedded.documents import Keys, Ports
from service.embedded.errors import NotInstalled
from service.embedded.folder import Folder
from service.embedded.part import Part, program

# What the shell says about other clusters, accounts, tracking servers and stacks is not meant for this one.
_FOREIGN = ("RAY_", "AWS_", "MLFLOW_", "_MLFLOW_")
_DIRECT = "127.0.0.1,127.0.0.2,localhost"  # never through a proxy


def parts(folder: Folder, ports: Ports, keys: Keys) -> tuple[Part, ...]:
    """In the order in which they should start: the slowest first."""
    return (
        ray.part(folder, ports, keys),
        mlflow.part(folder, ports, keys),
        seaweedfs.part(folder, ports),
        api.part(folder, ports, keys),
    )


def inherited_environment() -> dict[str, str]:
    """The part of this process's environment that every part gets."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(_FOREIGN)}
    for name in ("no_proxy", "NO_PROXY"):
        kept[name] = ",".join(filter(None, (kept.get(name), _DIRECT)))
    return kept


def check_installed() -> None:
    """Raise NotInstalled if a part's program is missing."""
    programs = map(shutil.which, (program("ray"), program("weed")))
    modules = map(importlib.util.find_spec, ("fastapi", "mlflow", "uvicorn"))
    if not all(programs) or not all(modules):
        raise NotInstalled
