"""Reading the pickles of EDM and CDM as data: nothing in them is imported or called.

Such a file holds objects by the source code of their classes. Here each of them becomes a record of its state and its
class's name; what a file may ask for beside is listed.
"""

import struct
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

import torch
from torch import Tensor

from workers.pickles import DataUnpickler, PlainDict, Record, RefusedError

_NUMPY_FORMATS = {"f8": "d", "f4": "f", "i8": "q", "i4": "i", "b1": "?"}


class SnapshotError(ValueError):
    """A file that is not a snapshot, or one of a network that is unknown here; the message says which."""


def read_pickle(path: Path) -> object:
    """Read a file of dictionaries, lists, numbers, tensors and records.

    Raises:
        SnapshotError: it cannot be read, is no whole pickle, or asks for anything that a snapshot does not need.
    """
    try:
        with path.open("rb") as file:
            return _Reader(file).load()
    except SnapshotError:
        raise
    except RefusedError as error:
        raise SnapshotError(str(error)) from None
    except OSError as error:
        raise SnapshotError(f"cannot be read: {error.strerror or error}") from None
    except Exception as error:  # noqa: BLE001 - there is nothing that a damaged stream may not raise
        raise SnapshotError(f"is not a snapshot, or not a whole one ({type(error).__name__}: {error})") from None


class _Reader(DataUnpickler):
    """Knows what snapshots ask for beside."""

    def __init__(self, file: BinaryIO) -> None:
        super().__init__(file)
        self.meanings |= {
            "torch_utils.persistence._reconstruct_persistent_obj": self._object,
            "torch.storage._load_from_bytes": self._storage,
            "torch._utils._rebuild_tensor_v2": self._tensor,
            "torch._utils._rebuild_parameter": self._parameter,
            "dnnlib.util.EasyDict": PlainDict,
        }
        for module in ("numpy.core.multiarray", "numpy._core.multiarray"):  # before and since NumPy 2
            self.meanings[f"{module}.scalar"] = self._numpy_number

    def find_class(self, module: str, name: str) -> object:
        return Record if module.startswith("torch.nn.modules.") else super().find_class(module, name)

    def _object(self, described: dict[str, object]) -> Record:
        record, name = Record(), described["class_name"]
        if type(name) is not str:  # the text of what holds itself many times over has no end
            raise RefusedError(f"has a {type(name).__name__} for the name of a class; it was refused")
        record.class_name, record.state = name, described["state"]
        return record

    def _storage(self, data: bytes) -> Tensor:
        """The numbers of a storage as a flat tensor."""
        storage = torch.load(BytesIO(data), map_location="cpu", weights_only=True)
        if not isinstance(storage, torch.storage.TypedStorage):
            raise SnapshotError(f"has a {type(storage).__name__} where the numbers of a tensor should be")
        return torch.empty(0, dtype=storage.dtype).set_(storage)

    def _tensor(
        self, numbers: Tensor, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: object
    ) -> Tensor:
        return numbers.as_strided(size, stride, offset)  # refuses to leave the numbers, where `set_` would make room

    def _parameter(self, data: Tensor, *_: object) -> Tensor:
        return data

    def _numpy_number(self, kind: Record, data: bytes) -> float:
        order = ">" if isinstance(kind.state, tuple) and kind.state[1] == ">" else "<"
        number: float
        (number,) = struct.unpack(order + _NUMPY_FORMATS[kind.class_name], data)
        return number
