"""The network in an official snapshot of EDM or CDM (`network-snapshot-*.pkl`), as one of ours."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from workers.contract.model import Preconditioning
from workers.contract.networks import Network
from workers.matching import tensor_mismatch
from workers.networks import build
from workers.networks.edm_architecture import Inputs, network_of, preconditioning_of
from workers.networks.edm_pickle import SnapshotError, read_pickle
from workers.pickles import Record


@dataclass(frozen=True, slots=True)
class PublishedNetwork:
    """A trained denoiser. `tensors` is the state of the network that `build` makes of the configuration, in float32."""

    network: Network
    inputs: Inputs
    preconditioning: Preconditioning
    sigma_data: float
    tensors: dict[str, Tensor]


def read_snapshot(path: Path) -> PublishedNetwork:
    """Read the moving average in a snapshot; nothing in the file is run, and nothing it says is taken on trust.

    Raises:
        SnapshotError: it is no whole snapshot, it asks for something to be run, or ours has no network like it.
    """
    try:
        content = read_pickle(path)
        denoiser = content.get("ema") if isinstance(content, dict) else None
        if not isinstance(denoiser, Record):
            raise SnapshotError("is a pickle, but no snapshot, which is a dictionary with a network under `ema`")
        preconditioning, sigma_data = preconditioning_of(denoiser)
        model = _members(denoiser, "_modules").get("model")
        if not isinstance(model, Record):
            raise SnapshotError(f"its {denoiser.class_name} has no network under `model`")
        network, inputs = network_of(model)
        return PublishedNetwork(network, inputs, preconditioning, sigma_data, _state_of(model, network, inputs))
    except SnapshotError as error:
        raise SnapshotError(f"{path}: {error}") from None
    except RecursionError:
        raise SnapshotError(f"{path}: its modules lie in each other without end") from None


def _state_of(model: Record, config: Network, inputs: Inputs) -> dict[str, Tensor]:
    """Its tensors by the same names as ours."""
    tensors = {name: tensor for name, tensor in _tensors(model) if not name.endswith(".resample_filter")}  # constants
    if reason := tensor_mismatch(tensors, _on_meta(config, inputs).state_dict()):
        raise SnapshotError(f"its tensors are not those of its options: {reason}")
    for name in tensors:
        if name.endswith((".qkv.weight", ".qkv.bias")):
            tensors[name] = regrouped(tensors[name])
    return {name: tensor.float().clone(memory_format=torch.contiguous_format) for name, tensor in tensors.items()}


def regrouped(rows: Float[Tensor, "rows *rest"]) -> Float[Tensor, "rows *rest"]:
    """From the published order of attention's rows, [heads, channels, 3], to ours, [3, heads, channels]."""
    return rows.reshape(-1, 3, *rows.shape[1:]).transpose(0, 1).reshape(rows.shape)


def _on_meta(config: Network, inputs: Inputs) -> torch.nn.Module:
    try:
        with torch.device("meta"):
            return build(config, **inputs.model_dump())
    except ValueError as error:
        raise SnapshotError(f"its options do not make a network: {error}") from None


def _tensors(record: Record, prefix: str = "") -> Iterator[tuple[str, Tensor]]:
    for members in ("_parameters", "_buffers"):
        for name, tensor in _members(record, members).items():
            if isinstance(tensor, Tensor) and tensor.is_floating_point():
                yield prefix + name, tensor
            elif tensor is not None:
                raise SnapshotError(f"{prefix}{name} is not a tensor of real numbers")
    for name, module in _members(record, "_modules").items():
        if isinstance(module, Record):
            yield from _tensors(module, f"{prefix}{name}.")


def _members(record: Record, name: str) -> dict[str, object]:
    """One of the dictionaries that a module keeps what belongs to it in."""
    members = record.get(name)
    if not isinstance(members, dict) or not all(isinstance(key, str) for key in members):
        raise SnapshotError(f"its {record.class_name or 'module'} has no {name}, which every module has")
    return members
