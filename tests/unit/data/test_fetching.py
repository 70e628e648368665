"""Images that are not on this machine: brought here, looked at, and gone again."""

import errno
import fcntl
import io
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from threading import Barrier
from typing import NamedTuple
from unittest.mock import Mock

import numpy as np
import pytest

from tests.support.uploads import ID, UPLOAD, uploaded
from workers.contract.data import NpzDataset
from workers.contract.keys import UploadKeys
from workers.data import DatasetError, import_images, remotes
from workers.data.fetching import fetch
from workers.storage import ahead, uploads
from workers.storage.memory import MemoryStore

UPLOADED = NpzDataset(kind="npz", path=UPLOAD)


@pytest.fixture
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The temporary folder, and nothing else is in it."""
    folder = tmp_path / "scratch"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def archive() -> bytes:
    pixels = np.random.default_rng(0).integers(0, 256, (6, 8, 8, 3), dtype=np.uint8)
    file = io.BytesIO()
    np.savez(file, X=pixels)
    return file.getvalue()


def refusal(store: MemoryStore, dataset: NpzDataset = UPLOADED) -> str:
    with pytest.raises(DatasetError) as refused:
        import_images(dataset, store)
    assert store.list("datasets/") == []
    return str(refused.value)


@pytest.mark.parametrize("part_bytes", [1, 500, 10**6])
def test_an_upload_is_put_together_of_its_parts_and_gone_afterwards(scratch: Path, part_bytes: int) -> None:
    content, heard = archive(), list[tuple[int, int | None]]()

    imported = import_images(
        UPLOADED, uploaded(content, part_bytes=part_bytes), on_bytes=lambda *heard_of: heard.append(heard_of)
    )

    assert imported.manifest.num_images == 6
    assert heard[-1] == (len(content), len(content))
    assert list(scratch.iterdir()) == []


def test_the_same_images_are_the_same_set_however_they_came(scratch: Path, tmp_path: Path) -> None:
    (tmp_path / "noise.npz").write_bytes(archive())
    store = uploaded(archive())

    at_path = import_images(NpzDataset(kind="npz", path=str(tmp_path / "noise.npz")), store)

    assert import_images(UPLOADED, store).manifest == at_path.manifest


def test_a_part_that_is_missing_or_short_is_no_file(scratch: Path) -> None:
    without, short = uploaded(archive()), uploaded(archive())
    without.delete(UploadKeys(ID).part(1))
    short.put(UploadKeys(ID).part(1), b"short")

    assert refusal(without) == "noise.npz: its part 1 is not there; upload the file again"
    assert "of 1" in refusal(short)
    assert list(scratch.iterdir()) == []


def test_what_is_not_what_was_sent_is_refused(scratch: Path) -> None:
    content = archive()
    damaged = bytes([*content[:700], content[700] ^ 1, *content[701:]])

    message = refusal(uploaded(damaged, sha256=sha256(content).hexdigest()))

    assert "is not what it should be" in message
    assert sha256(content).hexdigest() in message


@pytest.mark.parametrize("is_uploaded", [True, False])
def test_a_digest_of_the_file_in_the_document_is_compared(scratch: Path, tmp_path: Path, is_uploaded: bool) -> None:
    content = archive()
    (tmp_path / "noise.npz").write_bytes(content)
    path = UPLOADED.path if is_uploaded else str(tmp_path / "noise.npz")
    right, wrong = sha256(content).hexdigest(), "0" * 64

    import_images(NpzDataset(kind="npz", path=path, sha256=right), uploaded(content))

    assert "not " + wrong in refusal(uploaded(content), NpzDataset(kind="npz", path=path, sha256=wrong))


def test_what_is_wrong_with_a_file_is_told_under_the_name_that_its_owner_knows(scratch: Path) -> None:
    message = refusal(uploaded(b"no archive at all"))

    assert message.startswith("noise.npz: cannot be read as a NumPy archive")
    assert str(scratch) not in message
    assert list(scratch.iterdir()) == []


def test_an_upload_that_has_expired_is_asked_for_again(scratch: Path) -> None:
    assert refusal(MemoryStore()) == f"{UPLOAD}: there is no such upload any more; upload the file again"


@pytest.mark.parametrize("is_uploaded", [True, False])
def test_what_a_killed_process_has_left_goes_when_the_next_begins(
    scratch: Path, tmp_path: Path, is_uploaded: bool
) -> None:
    """What one that lives is using stays."""
    (tmp_path / "noise.npz").write_bytes(archive())
    path = UPLOADED.path if is_uploaded else str(tmp_path / "noise.npz")
    with unpacking(scratch) as (killed, left), unpacking(scratch) as (_, used):
        killed.kill()
        killed.wait()
        assert (left / "images").exists()

        import_images(NpzDataset(kind="npz", path=path), uploaded(archive()))

        assert list(scratch.iterdir()) == [used]
        assert (used / "images").exists()
    assert list(scratch.iterdir()) == [used]


def test_on_a_file_system_without_locks_nothing_is_taken_for_left(
    scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    used = scratch / f"cdm-scratch-used={socket.gethostname()}"
    used.mkdir()

    import_images(UPLOADED, uploaded(archive()))

    assert list(scratch.iterdir()) == [used]


@pytest.mark.parametrize("other", ["{}-2", "a-{}", "a.{}", "other"])
def test_folders_of_other_machines_are_not_taken_for_left(scratch: Path, other: str) -> None:
    """They may share a file system whose locks do not reach from one to another."""
    here = socket.gethostname()
    left, used = (scratch / f"cdm-scratch-some={host}" for host in (here, other.format(here)))
    left.mkdir()
    used.mkdir()

    import_images(UPLOADED, uploaded(archive()))

    assert list(scratch.iterdir()) == [used]


@contextmanager
def unpacking(scratch: Path) -> Iterator[tuple[subprocess.Popen[str], Path]]:
    """A process that is using a folder until it is killed."""
    program = """
from workers.data.scratch import scratch_folder
with scratch_folder() as folder:
    (folder / "images").write_bytes(b"many")
    print(folder, flush=True)
    input()
"""
    command, environment = [sys.executable, "-c", program], os.environ | {"TMPDIR": str(scratch)}
    with subprocess.Popen(
        command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            yield process, Path(process.stdout.readline().rstrip())
        finally:
            process.kill()


class _Disk(NamedTuple):
    total: int
    used: int
    free: int


def test_without_room_for_it_nothing_is_fetched(scratch: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: _Disk(10**9, 10**9, 0))

    message = refusal(uploaded(archive()))

    assert "do not fit into" in message
    assert "TMPDIR" in message
    assert list(scratch.iterdir()) == []


PIXELS = 6 * 3 * 8 * 8


@pytest.fixture
def local(tmp_path: Path) -> NpzDataset:
    """Nothing of it has to be fetched."""
    path = tmp_path / "noise.npz"
    path.write_bytes(archive())
    return NpzDataset(kind="npz", path=str(path))


@pytest.mark.parametrize("missing", [0, 1])
def test_pixels_are_written_only_where_there_is_room_for_all(
    scratch: Path, local: NpzDataset, monkeypatch: pytest.MonkeyPatch, missing: int
) -> None:
    """Compressed images become many times larger."""
    free = (256 << 20) + PIXELS - missing
    monkeypatch.setattr(shutil, "disk_usage", lambda _: _Disk(10**9, 10**9 - free, free))

    if missing:
        assert f"{local.path}: 0 MiB do not fit into {scratch} of the worker" in refusal(MemoryStore(), local)
    else:
        assert import_images(local, MemoryStore()).manifest.num_images == 6


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT], ids=errno.errorcode.__getitem__)
def test_a_disk_that_is_full_before_its_time_is_named(
    scratch: Path, local: NpzDataset, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    monkeypatch.setattr(Path, "write_bytes", Mock(side_effect=OSError(number, "full")))

    message = refusal(MemoryStore(), local)

    mend = "make room, or let TMPDIR be a folder of a larger disk"
    assert message == f"{local.path}: no room for it in {scratch} of the worker; {mend}"
    assert list(scratch.iterdir()) == []


def test_what_was_still_in_memory_when_the_disk_was_full_is_named(
    scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = Path.open
    monkeypatch.setattr(Path, "open", lambda *_: opened(Path("/dev/full"), "wb"))
    remote = remotes.Remote("few.tar", 3, None, iter([b"few"]))

    with pytest.raises(DatasetError, match=f"^few.tar: no room for it in {scratch.parent} of the worker; make room"):
        fetch(remote, scratch / "file", on_bytes=lambda *_: None)


def test_a_full_disk_of_others_is_not_taken_for_that_of_this_machine(scratch: Path, local: NpzDataset) -> None:
    full = OSError(errno.ENOSPC, "full where the store is")

    def pieces() -> Iterator[bytes]:
        yield b"few"
        raise full

    def on_progress(*_: int) -> None:
        raise full

    with pytest.raises(OSError, match="full where the store is"):
        fetch(remotes.Remote("few.tar", 5, None, pieces()), scratch / "file", on_bytes=lambda *_: None)
    with pytest.raises(OSError, match="full where the store is"):
        import_images(local, MemoryStore(), on_progress=on_progress)


def test_an_object_of_a_bucket_comes_in_several_streams(monkeypatch: pytest.MonkeyPatch) -> None:
    class Meeting(MemoryStore):
        """Gives out eight pieces at once, and none before that."""

        def part(self, key: str, offset: int, size: int) -> bytes:
            together.wait(10)
            return super().part(key, offset, size)

    monkeypatch.setattr(ahead, "_PIECE_BYTES", 3)
    together, store, content = Barrier(8), Meeting(), bytes(range(8 * 3 - 1))
    store.put("shard.tar", content)

    pieces = [*remotes.object_of(store, "shard.tar", place="s3://bucket/shard.tar").pieces]

    assert b"".join(pieces) == content
    assert {len(piece) for piece in pieces} == {3, 2}


@pytest.mark.parametrize("part_bytes", [1000, 4])
def test_an_upload_comes_in_several_streams_whatever_its_parts(
    monkeypatch: pytest.MonkeyPatch, part_bytes: int
) -> None:
    class Meeting(MemoryStore):
        """Gives out eight pieces of the parts at once, and none before that."""

        def part(self, key: str, offset: int, size: int) -> bytes:
            together.wait(10)
            return super().part(key, offset, size)

    monkeypatch.setattr(uploads, "_PIECE_BYTES", 4)
    together, store, content = Barrier(8), Meeting(), bytes(range(8 * 4 - 1))
    uploaded(content, into=store, part_bytes=part_bytes)

    assert b"".join(remotes.uploaded(ID, store).pieces) == content


def test_an_object_that_is_given_up_is_read_no_further(monkeypatch: pytest.MonkeyPatch) -> None:
    class Counting(MemoryStore):
        def part(self, key: str, offset: int, size: int) -> bytes:
            asked.append(offset)
            return super().part(key, offset, size)

    monkeypatch.setattr(ahead, "_PIECE_BYTES", 1)
    asked, store = list[int](), Counting()
    store.put("shard.tar", bytes(1000))

    next(remotes.object_of(store, "shard.tar", place="s3://bucket/shard.tar").pieces)

    assert len(asked) <= 8
