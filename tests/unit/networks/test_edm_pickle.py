"""Files that are no snapshots, and snapshots that are traps."""

import io
import os
import pickle
import subprocess
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.support.edm_snapshots import write_snapshot
from tests.support.published_networks import published
from workers.networks.edm_pickle import SnapshotError
from workers.networks.edm_snapshot import read_snapshot


class Call:
    """Pickled as a call that takes place when it is read."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self._call = function, arguments

    def __reduce__(self) -> Any:
        return self._call


def inside_of_tensors(call: Call) -> Call:
    """The call within the bytes of a storage, where PyTorch has a pickle of its own."""
    buffer = io.BytesIO()
    torch.save(call, buffer, _use_new_zipfile_serialization=False)
    return Call(torch.storage._load_from_bytes, buffer.getvalue())


@pytest.mark.parametrize(
    ("trap", "named"),
    [
        (lambda path: Call(os.system, f"touch {path}"), r"asks for (posix|nt).system"),
        (lambda path: Call(eval, f"open({str(path)!r}, 'w')"), "asks for builtins.eval"),
        (lambda path: Call(open, str(path), "w"), "asks for (_?io|builtins).open"),
        (lambda path: Call(subprocess.run, ["touch", str(path)]), "asks for subprocess.run"),
        (lambda path: Call(getattr, Call(__import__, "os"), "mkdir"), "asks for builtins.getattr"),
        (lambda path: Call(torch.load, str(path)), "asks for torch.serialization.load"),
        (lambda path: Call(torch.hub.load, "some/where", "net"), "asks for torch.hub.load"),
        (lambda path: inside_of_tensors(Call(os.system, f"touch {path}")), "UnpicklingError"),
    ],
)
def test_a_trap_is_refused_by_name_and_does_not_snap(tmp_path: Path, trap: Callable[[Path], Call], named: str) -> None:
    snapped, path = tmp_path / "snapped", tmp_path / "trap.pkl"
    path.write_bytes(pickle.dumps({"ema": trap(snapped)}))

    with pytest.raises(SnapshotError, match=named) as refused:
        read_snapshot(path)

    assert str(refused.value).startswith(f"{path}: ")
    assert not snapped.exists()


def test_a_stream_cannot_change_what_reads_it(tmp_path: Path) -> None:
    path = tmp_path / "trap.pkl"
    set_its_code = b"(N}(X\x08\x00\x00\x00__code__Nutb."
    path.write_bytes(b"\x80\x04ctorch._utils\n_rebuild_parameter\n" + set_its_code)

    with pytest.raises(SnapshotError, match="sets attributes of a method; it was refused"):
        read_snapshot(path)


ENDLESS = b"N" + b"2\x86" * 60  # what holds itself twice, sixty times over: its text and its hash have no end


@pytest.mark.parametrize(
    ("stream", "said"),
    [
        (
            b"ctorch_utils.persistence\n_reconstruct_persistent_obj\n}(\x8c\x0aclass_name"
            + ENDLESS
            + b"\x8c\x05stateNu\x85R.",
            "has a tuple for the name of a class",
        ),
        (
            b"cnumpy.core.multiarray\nscalar\ncnumpy\ndtype\n" + ENDLESS + b"\x85RC\x01a\x86R.",
            "has a tuple for a type of numbers",
        ),
    ],
)
def test_names_that_are_no_texts_are_refused_unread(tmp_path: Path, stream: bytes, said: str) -> None:
    path = tmp_path / "trap.pkl"
    path.write_bytes(b"\x80\x04" + stream)

    with pytest.raises(SnapshotError, match=said):
        read_snapshot(path)


def test_a_tensor_cannot_reach_beyond_its_numbers(tmp_path: Path) -> None:
    storage = torch.zeros(4)._typed_storage()
    path = tmp_path / "trap.pkl"
    call = Call(torch._utils._rebuild_tensor_v2, storage, 0, (1_000_000,), (1,), False, OrderedDict())
    path.write_bytes(pickle.dumps({"ema": call}))

    with pytest.raises(SnapshotError, match="out of bounds"):
        read_snapshot(path)


def test_modules_that_hold_themselves_are_refused(tmp_path: Path) -> None:
    module = torch.nn.ModuleDict()
    module.__dict__["_modules"]["again"] = module
    network = published("ddpmpp")
    path = write_snapshot(tmp_path / "trap.pkl", network, {}, members={"enc": module})

    with pytest.raises(SnapshotError, match="lie in each other without end"):
        read_snapshot(path)


@pytest.mark.parametrize("kept", [0, 1, 100, 10_000, -1])
def test_a_part_of_a_snapshot_is_refused(tmp_path: Path, kept: int) -> None:
    network = published("ddpmpp", channels=8)
    path = write_snapshot(tmp_path / "part.pkl", network, network.tensors())
    path.write_bytes(path.read_bytes()[:kept])

    with pytest.raises(SnapshotError, match=r"part.pkl: is not a snapshot, or not a whole one \("):
        read_snapshot(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"<html>404</html>", "is not a snapshot, or not a whole one"),
        (b"PK\x03\x04 as torch.save writes", "is not a snapshot, or not a whole one"),
        (pickle.dumps([1, 2]), "is a pickle, but no snapshot"),
        (pickle.dumps({"model": 1}), "is a pickle, but no snapshot"),
        (pickle.dumps({"ema": torch.zeros(2)}), "is a pickle, but no snapshot"),
    ],
)
def test_another_file_is_not_taken_for_a_snapshot(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "other.pkl"
    path.write_bytes(content)

    with pytest.raises(SnapshotError, match=message):
        read_snapshot(path)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(SnapshotError, match=r"missing.pkl: cannot be read: No such file"):
        read_snapshot(tmp_path / "missing.pkl")
