"""Checkpoints: tensors as safetensors, the rest as JSON, and a manifest that is written last."""

import hashlib
import json
from datetime import UTC, datetime

import safetensors.torch
import structlog
from pydantic import ValidationError
from torch import Tensor

from workers.contract.keys import MANIFEST, JobKeys
from workers.contract.records import CheckpointFile, CheckpointManifest
from workers.storage import ObjectStore
from workers.training.state import TrainState

log = structlog.get_logger()

_TENSOR_FILES = ("network.safetensors", "ema.safetensors", "optimizer.safetensors")


class DamagedCheckpointError(Exception):
    """A file of a committed checkpoint is missing or is not what the manifest says."""


class FencedError(Exception):
    """A later attempt has begun; this one must leave without a trace."""


def save_checkpoint(
    state: TrainState, store: ObjectStore, keys: JobKeys, *, attempt: int, spec_sha256: str
) -> CheckpointManifest:
    """Write `state` so that it exists wholly or not at all: the manifest is the commit point.

    Raises:
        FencedError: before committing, if a later attempt has been claimed.
    """
    folder = keys.checkpoint(state.images_seen, attempt)
    files = {
        "network.safetensors": safetensors.torch.save(_on_cpu(state.denoiser.network.state_dict())),
        "ema.safetensors": safetensors.torch.save(_on_cpu(state.ema.network.state_dict())),
        "optimizer.safetensors": safetensors.torch.save(_on_cpu(_optimizer_tensors(state))),
        "state.json": json.dumps({"images_seen": state.images_seen, "sigma_data": state.denoiser.sigma_data}).encode(),
    }
    for name, data in files.items():
        store.put(folder + name, data)
    manifest = CheckpointManifest(
        images_seen=state.images_seen,
        attempt=attempt,
        spec_sha256=spec_sha256,
        created_at=datetime.now(UTC),
        files=tuple(
            CheckpointFile(name=name, num_bytes=len(data), sha256=hashlib.sha256(data).hexdigest())
            for name, data in files.items()
        ),
    )
    if newest_attempt(store, keys) > attempt:
        raise FencedError(f"attempt {attempt} has been superseded")
    store.put(folder + MANIFEST, manifest.model_dump_json(indent=2).encode())
    return manifest


def newest_attempt(store: ObjectStore, keys: JobKeys) -> int:
    """The highest attempt that anyone has claimed; 0 before the first."""
    claims = (key for key in store.list(keys.attempts) if key.endswith("/claim.json"))
    return max((int(key.split("/")[-2]) for key in claims), default=0)


def committed_checkpoints(store: ObjectStore, keys: JobKeys) -> list[str]:
    """The folders of all checkpoints that exist, oldest first."""
    return [key.removesuffix(MANIFEST) for key in store.list(keys.checkpoints) if key.endswith(f"/{MANIFEST}")]


def restore_latest(state: TrainState, store: ObjectStore, keys: JobKeys) -> str | None:
    """Put the newest whole checkpoint into `state` and return its folder; None if there is none.

    A damaged one is passed over, loudly.
    """
    for folder in reversed(committed_checkpoints(store, keys)):
        try:
            restore(state, store, folder)
        except DamagedCheckpointError as error:
            log.warning("checkpoint.damaged", folder=folder, error=str(error))
        else:
            return folder
    return None


def restore(state: TrainState, store: ObjectStore, folder: str) -> CheckpointManifest:
    """Put one checkpoint into `state`, after every byte of it has been verified.

    Raises:
        DamagedCheckpointError: and `state` is as it was.
    """
    try:
        manifest = CheckpointManifest.model_validate_json(store.get(folder + MANIFEST))
    except (FileNotFoundError, ValidationError) as error:
        raise DamagedCheckpointError(f"{MANIFEST}: {error}") from error
    files = {file.name: _verified(store, folder, file) for file in manifest.files}
    if missing := {*_TENSOR_FILES} - {*files}:
        raise DamagedCheckpointError(f"{MANIFEST} lists no {' and no '.join(sorted(missing))}")
    state.denoiser.network.load_state_dict(safetensors.torch.load(files["network.safetensors"]))
    state.ema.network.load_state_dict(safetensors.torch.load(files["ema.safetensors"]))
    _load_optimizer(state, safetensors.torch.load(files["optimizer.safetensors"]))
    state.images_seen = manifest.images_seen
    return manifest


def _verified(store: ObjectStore, folder: str, file: CheckpointFile) -> bytes:
    try:
        data = store.get(folder + file.name)
    except FileNotFoundError:
        raise DamagedCheckpointError(f"{file.name} is missing") from None
    if hashlib.sha256(data).hexdigest() != file.sha256:
        raise DamagedCheckpointError(f"{file.name} has {len(data)} bytes that are not those written")
    return data


def _on_cpu(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}


def _optimizer_tensors(state: TrainState) -> dict[str, Tensor]:
    """Adam's moments and step counts by parameter: `exp_avg/<parameter>` and so on."""
    moments = state.optimizer.state
    named = state.denoiser.network.named_parameters()
    return {f"{moment}/{name}": value for name, p in named for moment, value in moments[p].items()}


def _load_optimizer(state: TrainState, tensors: dict[str, Tensor]) -> None:
    by_parameter: dict[str, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        moment, _, name = key.partition("/")
        by_parameter.setdefault(name, {})[moment] = value
    names = [name for name, _ in state.denoiser.network.named_parameters()]
    groups = state.optimizer.state_dict()["param_groups"]
    moments = {index: by_parameter[name] for index, name in enumerate(names) if name in by_parameter}
    state.optimizer.load_state_dict({"state": moments, "param_groups": groups})
