"""Reading pickles as data: nothing in them is imported or called.

What a file may ask for is listed; each of it has a harmless meaning, and an object becomes a record of its state.
"""

import pickle
from collections import OrderedDict
from typing import BinaryIO


class RefusedError(ValueError):
    """A pickle asks for something that is not on the list."""


class Record:
    """What a pickle says of an object, in place of the object."""

    class_name: str = ""
    state: object = None

    def __setstate__(self, state: object) -> None:
        self.state = state

    def get(self, name: str) -> object:
        """An attribute of the object; None if it has none of that name."""
        return self.state.get(name) if isinstance(self.state, dict) else None


class DataUnpickler(pickle.Unpickler):
    """Reads dictionaries, lists, numbers, strings and NumPy arrays, these as records; more in subclasses.

    Meanings are bound methods, builtin types and `Record`, since a stream may set attributes of what it has named: on
    these it cannot.
    """

    def __init__(self, file: BinaryIO, *, encoding: str = "ASCII") -> None:
        super().__init__(file, encoding=encoding)
        self.meanings: dict[str, object] = {
            "collections.OrderedDict": OrderedDict,
            "numpy.dtype": self._numpy_type,
            "numpy.ndarray": Record,
        }
        for module in ("numpy.core.multiarray", "numpy._core.multiarray"):  # before and since NumPy 2
            self.meanings[f"{module}._reconstruct"] = self._numpy_array

    def find_class(self, module: str, name: str) -> object:
        if meaning := self.meanings.get(f"{module}.{name}"):
            return meaning
        raise RefusedError(f"asks for {module}.{name}, which is not needed; it was refused, and nothing was run")

    def _numpy_type(self, code: str, *_: object) -> Record:
        record = Record()
        record.class_name = code
        return record

    def _numpy_array(self, *_: object) -> Record:
        return Record()
