"""A safetensors file in memory that tensors are copied into, and that is written as it lies there.

Serialising would copy the tensors twice more, on a thread that training shares an interpreter with.
"""

import json
from collections.abc import Mapping

import torch
from torch import Tensor

_NAMES = {torch.float64: "F64", torch.int64: "I64", torch.float32: "F32", torch.bfloat16: "BF16", torch.float16: "F16"}
_ALIGNMENT = 8  # bytes, as the format has it, and as its largest elements need


class TensorFile:
    """Room for tensors of these names, shapes and kinds; page-locked if they are on a GPU.

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

    def fits(self, tensors: Mapping[str, Tensor]) -> bool:
        """It was made for tensors of these names."""
        return self._views.keys() == tensors.keys()

    def copy(self, tensors: Mapping[str, Tensor]) -> None:
        """Put tensors in their places; from a GPU, this only asks for it."""
        for name, view in self._views.items():
            view.copy_(tensors[name].detach(), non_blocking=True)


def _layout(tensors: Mapping[str, Tensor]) -> tuple[bytes, dict[str, slice]]:
    """The header (its length, then JSON), and where after it each tensor lies; larger elements first, so all align."""
    described, places, end = {}, {}, 0
    for name, tensor in sorted(tensors.items(), key=lambda each: (-each[1].itemsize, each[0])):
        begin, end = end, end + tensor.nbytes
        described[name] = {"dtype": _NAMES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [begin, end]}
        places[name] = slice(begin, end)
    text = json.dumps(described, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % _ALIGNMENT)
    return len(text).to_bytes(8, "little") + text, places
