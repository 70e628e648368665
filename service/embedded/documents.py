"""The small JSON files in the state folder. They hold keys, so only their owner may read them."""

import os
import secrets
from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict, ValidationError


class StateFile(BaseModel):
    """A frozen value that is kept in a file. Unknown fields of other versions are ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    @classmethod
    def read(cls, path: Path) -> Self | None:
        """None if there is no such file, or one that cannot be understood."""
        try:
            return cls.model_validate_json(path.read_bytes())
        except (FileNotFoundError, NotADirectoryError, ValidationError):
            return None

    def write(self, path: Path) -> None:
        write_privately(path, self.model_dump_json(indent=2))


def write_privately(path: Path, text: str) -> None:
    """Replace a file in one step; others cannot read it, not even for a moment."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(text)
    os.replace(temporary, path)


class Connection(StateFile):
    """How a client reaches the API."""

    url: str
    api_key: str


class Keys(StateFile):
    """The secrets of a stack, made once. `mark` is none: it tells the stack's processes from all others."""

    mark: str
    api_key: str
    ray_token: str
    s3_access_key: str
    s3_secret_key: str

    @classmethod
    def generate(cls) -> Self:
        return cls(
            mark=secrets.token_hex(8),
            api_key=f"cdm_sk_{secrets.token_hex(20)}",
            ray_token=secrets.token_hex(32),
            s3_access_key=secrets.token_hex(10),
            s3_secret_key=secrets.token_hex(20),
        )


class Ports(StateFile):
    """Where each server listens, on loopback. SeaweedFS takes each of its own and the one 10000 above it, for gRPC."""

    api: int
    mlflow: int
    s3: int
    s3_master: int
    s3_volume: int
    s3_filer: int
    s3_admin: int
    ray_gcs: int
    ray_dashboard: int
    ray_client: int


class Run(StateFile):
    """The `cdm up` that runs the stack, or ran it last."""

    pid: int
    created_at: float
    ready: bool
    ports: Ports
