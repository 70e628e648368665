"""What a checkpoint holds of a state: tensors as safetensors, the rest as JSON. No pickle is written or read."""

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Self

import torch
from torch import Tensor, nn

from workers.matching import tensor_mismatch
from workers.training.state import TrainState

NETWORK, _OPTIMIZER, STATE = "network.safetensors", "optimizer.safetensors", "state.json"
_DTYPE_NAMES = {  # what gloo and NCCL exchange, too; int16 they do not
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}
_ALIGNMENT = 8  # bytes, as the format has it, and as its largest elements need


def average_file(name: str) -> str:
    """The file of a checkpoint that holds the average of this name; see `average_names`."""
    return f"{name}.safetensors"


def refuse_unstorable(network: nn.Module) -> None:
    """Raises ValueError, naming a tensor, if checkpoints cannot hold the network or workers cannot exchange it."""
    for name, tensor in network.state_dict().items():
        if tensor.dtype not in _DTYPE_NAMES:
            known = ", ".join(str(dtype).removeprefix("torch.") for dtype in _DTYPE_NAMES)
            raise ValueError(
                f"network: {name} is of {tensor.dtype}, which cannot be kept or shared; use one of {known}"
            )


class Snapshot:
    """A state at one moment, copied to host memory, so that training goes on while it is written.

    Taking the next one overwrites the memory of the last.
    """

    def __init__(self) -> None:
        self.images_seen = 0
        self._sigma_data = 0.0
        self._files: dict[str, TensorFile] = {}

    @classmethod
    def of(cls, state: TrainState) -> Self:
        snapshot = cls()
        snapshot.take(state)
        return snapshot

    def take(self, state: TrainState) -> None:
        self.images_seen, self._sigma_data = state.images_seen, state.denoiser.sigma_data
        files = tensors_of(state)
        if not self._files:
            self._files = {name: TensorFile(tensors) for name, tensors in files.items()}
        for name, tensors in files.items():
            self._files[name].copy(tensors)
        for gpu in {tensor.device for tensors in files.values() for tensor in tensors.values() if tensor.is_cuda}:
            torch.cuda.synchronize(gpu)  # the copies were only asked for; on a GPU of others it would take memory

    def files(self) -> Iterator[tuple[str, memoryview]]:
        """The files of a checkpoint by name. They are the snapshot itself: read them before the next is taken."""
        for name, file in self._files.items():
            yield name, file.data
        yield STATE, memoryview(json.dumps({"sigma_data": self._sigma_data}).encode())


def needed_files(average_names: Iterable[str]) -> set[str]:
    """Without these, a state with averages of these names cannot be restored."""
    return {NETWORK, _OPTIMIZER, *map(average_file, average_names)}


def sigma_data_of(state: bytes) -> float:
    """What the denoiser of a checkpoint takes for the standard deviation of its images, out of its `STATE`."""
    return float(json.loads(state)["sigma_data"])


def load_contents(state: TrainState, files: Mapping[str, Mapping[str, Tensor]]) -> None:
    """Put the tensors of a snapshot of a state of the same spec into those of this one; all but `images_seen`.

    Raises:
        ValueError: they are of another network; the state is as it was.
    """
    everything = tensors_of(state)
    for name, own in everything.items():
        if reason := tensor_mismatch(files[name], own):
            raise ValueError(f"{name} is of another network: {reason}")
    for name, own in everything.items():
        for key, tensor in own.items():
            tensor.copy_(files[name][key])


def tensors_of(state: TrainState) -> dict[str, dict[str, Tensor]]:
    """All that training changes, by file and by name: the tensors themselves, in the same order in every process."""
    weights = {file: dict(network.state_dict()) for file, network in _networks(state).items()}
    return weights | {_OPTIMIZER: _optimizer_tensors(state)}


def _networks(state: TrainState) -> Mapping[str, nn.Module]:
    """All that have weights, by their file."""
    averages = zip(map(average_file, state.average_names), state.averages, strict=True)
    return {NETWORK: state.denoiser.network} | {file: average.network for file, average in averages}


def _optimizer_tensors(state: TrainState) -> dict[str, Tensor]:
    """Adam's moments and step counts by parameter: `exp_avg/<parameter>` and so on."""
    moments = state.optimizer.state
    named = state.denoiser.network.named_parameters()
    return {f"{moment}/{name}": value for name, p in named for moment, value in moments[p].items()}


class TensorFile:
    """A safetensors file in memory for tensors of these names, shapes and kinds; page-locked if they are on a GPU.

    They are copied into it, and it is written as it lies there: serialising would copy them twice more, on a thread
    that training shares an interpreter with.

    Page-locked memory of PyTorch comes in powers of two: up to twice as much may be taken.
    """

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        header, places = _layout(tensors)
        size = len(header) + sum(tensor.nbytes for tensor in tensors.values())
        on_gpu = any(tensor.is_cuda for tensor in tensors.values())
        self._bytes = torch.empty(size, dtype=torch.uint8, pin_memory=on_gpu)
        self._bytes[: len(header)] = torch.frombuffer(bytearray(header), dtype=torch.uint8)
        self._views = {
            name: self._bytes[len(header) :][place].view(tensors[name].dtype).view(tensors[name].shape)
            for name, place in places.items()
        }

    @property
    def data(self) -> memoryview:
        """The file; what is copied next shows in it."""
        return self._bytes.numpy().data.toreadonly()

    def copy(self, tensors: Mapping[str, Tensor]) -> None:
        """Put tensors in their places; from a GPU, this only asks for it."""
        for name, view in self._views.items():
            view.copy_(tensors[name].detach(), non_blocking=True)


def _layout(tensors: Mapping[str, Tensor]) -> tuple[bytes, dict[str, slice]]:
    """The header (its length, then JSON), and where after it each tensor lies; larger elements first, so all align."""
    described, places, end = {}, {}, 0
    for name, tensor in sorted(tensors.items(), key=lambda each: (-each[1].itemsize, each[0])):
        begin, end = end, end + tensor.nbytes
        described[name] = {
            "dtype": _DTYPE_NAMES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [begin, end],
        }
        places[name] = slice(begin, end)
    text = json.dumps(described, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % _ALIGNMENT)
    return len(text).to_bytes(8, "little") + text, places
