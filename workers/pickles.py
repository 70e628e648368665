"""Reading pickles as data: nothing in them is imported or called.

What a file may ask for is listed; each of it has a harmless meaning, and an object becomes a record of its state.
"""

import pickle
from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import Any, BinaryIO, ClassVar


class RefusedError(ValueError):
    """A pickle asks for something that is not on the list."""


class Record:
    """What a pickle says of an object, in place of the object."""

    class_name: str = ""
    state: object = None

    def get(self, name: str) -> object:
        """An attribute of the object; None if it has none of that name."""
        return self.state.get(name) if isinstance(self.state, dict) else None


class PlainDict(OrderedDict[Any, Any]):
    """In place of every kind of dictionary that is made from pairs."""

    def __init__(self, pairs: Iterable[tuple[object, object]] = ()) -> None:
        super().__init__()
        for key, value in pairs:
            self[_plain(key)] = value


class DataUnpickler(pickle._Unpickler):  # private, but the one that can be narrowed
    """Reads dictionaries, lists, numbers, strings and NumPy arrays, these as records; more in subclasses.

    The unpickler in C follows a stream of a few bytes into a memory of gigabytes, or into a tuple too deep to hash.
    """

    dispatch: ClassVar[dict[int, Any]] = {**pickle._Unpickler.dispatch}
    stack: list[Any]
    append: Callable[[object], None]
    pop_mark: Callable[[], list[Any]]

    def __init__(self, file: BinaryIO, *, encoding: str = "ASCII") -> None:
        super().__init__(file, encoding=encoding)
        self.meanings: dict[str, object] = {
            "collections.OrderedDict": PlainDict,
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
        if type(code) not in {str, bytes}:
            raise RefusedError(f"has a {type(code).__name__} for a type of numbers; it was refused")
        record = Record()
        record.class_name = code
        return record

    def _numpy_array(self, *_: object) -> Record:
        return Record()

    def _set_item(self) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self._dictionary()[_plain(key)] = value

    def _set_items(self) -> None:
        items = self.pop_mark()
        self._dictionary().update(_entries(items))

    def _make_dictionary(self) -> None:
        items = self.pop_mark()  # which puts another list, and its `append`, in place of the stack
        self.append(_entries(items))

    def _dictionary(self) -> dict[Any, Any]:
        target = self.stack[-1]
        if not isinstance(target, dict):
            raise RefusedError("puts entries into what is no dictionary; it was refused")
        return target

    def _build(self) -> None:
        """Attributes of a dictionary do not matter here; nothing else has a state."""
        state, target = self.stack.pop(), self.stack[-1]
        if isinstance(target, Record):
            target.state = state
        elif not isinstance(target, dict):
            raise RefusedError(f"sets attributes of a {type(target).__name__}; it was refused")

    def _add_items(self) -> None:
        items, target = self.pop_mark(), self.stack[-1]
        if not isinstance(target, set):
            raise RefusedError("puts members into what is no set; it was refused")
        target.update(map(_plain, items))

    def _refuse(self) -> None:
        raise RefusedError("holds objects by number, frozen sets or buffers, which are not needed; it was refused")

    dispatch[pickle.SETITEM[0]] = _set_item
    dispatch[pickle.SETITEMS[0]] = _set_items
    dispatch[pickle.DICT[0]] = _make_dictionary
    dispatch[pickle.BUILD[0]] = _build
    dispatch[pickle.ADDITEMS[0]] = _add_items
    # A bytearray takes the memory that is announced before any of it is there.
    for _code in (pickle.FROZENSET, pickle.EXT1, pickle.EXT2, pickle.EXT4, pickle.BYTEARRAY8, pickle.NEXT_BUFFER):
        dispatch[_code[0]] = _refuse


def _entries(items: list[object]) -> dict[object, object]:
    """Of keys and values in turn."""
    return {_plain(key): value for key, value in zip(items[::2], items[1::2], strict=True)}


def _plain(key: object) -> object:
    if key is None or type(key) in {str, bytes, int, float, bool}:
        return key
    raise RefusedError(f"has a {type(key).__name__} for a key; it was refused")
