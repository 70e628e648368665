"""What a checkpoint holds of a state: tensors as safetensors, the rest as JSON. No pickle is written or read."""

import json
from collections.abc import Iterable, Iterator, Mapping

import safetensors.torch
import torch
from torch import Tensor, nn

from workers.training.state import TrainState

NETWORK, _OPTIMIZER = "network.safetensors", "optimizer.safetensors"


def average_file(name: str) -> str:
    """The file of a checkpoint that holds the average of this name; see `average_names`."""
    return f"{name}.safetensors"


def contents(state: TrainState) -> Iterator[tuple[str, bytes]]:
    """The files of a state by name, one at a time: they need not fit into memory together."""
    for name, network in _networks(state).items():
        yield name, safetensors.torch.save(_on_cpu(network.state_dict()))
    yield _OPTIMIZER, safetensors.torch.save(_on_cpu(_optimizer_tensors(state)))
    words = {"images_seen": state.images_seen, "sigma_data": state.denoiser.sigma_data}
    yield "state.json", json.dumps(words).encode()


def needed_files(average_names: Iterable[str]) -> set[str]:
    """Without these, a state with averages of these names cannot be restored."""
    return {NETWORK, _OPTIMIZER, *map(average_file, average_names)}


def load_contents(state: TrainState, files: Mapping[str, bytes]) -> None:
    """Put what `contents` made of a state of the same spec into this one; all but `images_seen`."""
    for name, network in _networks(state).items():
        network.load_state_dict(safetensors.torch.load(files[name]))
    _load_optimizer(state, safetensors.torch.load(files[_OPTIMIZER]))


def _networks(state: TrainState) -> Mapping[str, nn.Module]:
    """All that have weights, by their file."""
    averages = zip(map(average_file, state.average_names), state.averages, strict=True)
    return {NETWORK: state.denoiser.network} | {file: average.network for file, average in averages}


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
    named = enumerate(state.denoiser.network.named_parameters())
    moments = {
        index: {moment: _laid_out_like(parameter, value) for moment, value in by_parameter[name].items()}
        for index, (name, parameter) in named
        if name in by_parameter
    }
    groups = state.optimizer.state_dict()["param_groups"]
    state.optimizer.load_state_dict({"state": moments, "param_groups": groups})


def _laid_out_like(parameter: Tensor, value: Tensor) -> Tensor:
    """In the memory format of its parameter, without which fused Adam loses its fast path; a step count as it is."""
    if value.shape != parameter.shape:
        return value
    return torch.empty_like(parameter, dtype=value.dtype, device="cpu").copy_(value)
