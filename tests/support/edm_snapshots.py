"""Writes snapshots like those of EDM and CDM: the same structure and globals, around a network with random numbers."""

import pickle
import sys
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from torch import Tensor, nn

from tests.support.published_networks import Published

_SOURCE = "raise AssertionError('the source code in a snapshot was run')"
_CONTAINERS = ("enc", "dec")


def write_snapshot(
    path: Path,
    network: Published,
    tensors: Mapping[str, Tensor],
    *,
    denoiser: str = "EDMPrecond",
    members: Mapping[str, nn.Module] | None = None,
    **denoiser_options: Any,
) -> Path:
    """Write what the authors' training loop writes, with `tensors` by their published names, without `model.`.

    `members` are modules to put into the network beside.
    """
    with _authors_modules() as easy_dict:
        network_state = _module_state(tensors, network.options)
        network_state["_modules"].update(members or {})
        model = _Persistent(network.class_name, network_state)
        options = {**network.options, **denoiser_options, "use_fp16": False, "model_type": network.class_name}
        state = {**_module_state({}, options), "_modules": OrderedDict(model=model)}
        content = {
            "ema": _Persistent(denoiser, state),
            "loss_fn": _Persistent("EDMLoss", {"P_mean": -1.2, "P_std": 1.2, "sigma_data": 0.5}),
            "augment_pipe": None,
            "dataset_kwargs": easy_dict(path="images.zip", resolution=network.options["img_resolution"]),
        }
        path.write_bytes(pickle.dumps(content))
    return path


class _Persistent:
    """An object of a class of the authors, which is pickled as a description of itself with its source code."""

    def __init__(self, class_name: str, state: Mapping[str, Any]) -> None:
        self._meta = {"type": "class", "version": 6, "module_src": _SOURCE, "class_name": class_name, "state": state}

    def __reduce__(self) -> Any:
        return sys.modules["torch_utils.persistence"]._reconstruct_persistent_obj, (self._meta,)


def _module_state(tensors: Mapping[str, Tensor], options: Mapping[str, Any]) -> dict[str, Any]:
    """The attributes of a module with these tensors in it, and in its submodules."""
    state: dict[str, Any] = dict(nn.Module().__dict__)
    state |= {"_init_args": (), "_init_kwargs": dict(options), "_parameters": OrderedDict(), "_modules": OrderedDict()}
    state |= {"skip_scale": np.sqrt(0.5), "_buffers": OrderedDict()}  # a number of NumPy, as in the authors' blocks
    inner: dict[str, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        head, _, rest = name.partition(".")
        if rest:
            inner.setdefault(head, {})[rest] = tensor
        elif head in ("weight", "bias"):
            state["_parameters"][head] = nn.Parameter(tensor, requires_grad=False)
        else:
            state["_buffers"][head] = tensor
    for name, members in inner.items():
        state["_modules"][name] = _module(name, members)
    return state


def _module(name: str, tensors: Mapping[str, Tensor]) -> "nn.ModuleDict | _Persistent":
    state = _module_state(tensors, {})
    if name not in _CONTAINERS:
        return _Persistent("Conv2d", state)
    container = nn.ModuleDict()
    container.__dict__["_modules"] = state["_modules"]
    return container


@contextmanager
def _authors_modules() -> Iterator[type[dict[str, Any]]]:
    """Stand-ins for the modules that a stream refers to by name; gone again when it has been written."""
    easy_dict = type("EasyDict", (dict,), {"__module__": "dnnlib.util"})
    persistence, util = ModuleType("torch_utils.persistence"), ModuleType("dnnlib.util")
    persistence.__dict__["_reconstruct_persistent_obj"] = _named_as_the_authors(persistence)
    util.__dict__["EasyDict"] = easy_dict
    added = {"torch_utils": ModuleType("torch_utils"), "torch_utils.persistence": persistence}
    added |= {"dnnlib": ModuleType("dnnlib"), "dnnlib.util": util}
    sys.modules.update(added)
    try:
        yield easy_dict
    finally:
        for name in added:
            del sys.modules[name]


def _named_as_the_authors(module: ModuleType) -> Any:
    def _reconstruct_persistent_obj(_meta: object) -> None:
        raise AssertionError("a snapshot was read by the code that it names")

    _reconstruct_persistent_obj.__module__ = module.__name__
    _reconstruct_persistent_obj.__qualname__ = "_reconstruct_persistent_obj"
    return _reconstruct_persistent_obj
