"""Archives of ZIP's form that are small and unpack to much."""

import io
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from zipfile import ZIP_BZIP2, ZIP_DEFLATED, ZIP_LZMA, BadZipFile, ZipFile

import numpy as np
import pytest

from tests.support.image_sets import PNGS, numpy_archive, refusal, zipped
from tests.support.pictures import write_zip
from workers.contract.document import SpecError
from workers.evaluation.statistics import Statistics
from workers.zips import read_member, require_whole

MEBIBYTE = 1 << 20


def lying_zip(method: int, name: str) -> bytes:
    """One member that unpacks to 64 MiB and says that it has 100 bytes."""
    buffer = io.BytesIO()
    with ZipFile(buffer, "w", method) as archive:
        archive.writestr(name, bytes(64 * MEBIBYTE))
    content = bytearray(buffer.getvalue())
    size = content.index(b"PK\x01\x02") + 24
    content[size : size + 4] = (100).to_bytes(4, "little")
    return bytes(content)


@contextmanager
def little_memory() -> Iterator[None]:
    """For what takes little of it."""
    tracemalloc.start()
    try:
        yield
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < 16 * MEBIBYTE


@pytest.mark.parametrize("method", [ZIP_DEFLATED, ZIP_BZIP2, ZIP_LZMA])
def test_a_small_archive_that_lies_about_its_size_does_not_fill_memory(tmp_path: Path, method: int) -> None:
    (tmp_path / "a.zip").write_bytes(lying_zip(method, "a.png"))
    (tmp_path / "a.npz").write_bytes(lying_zip(method, "a.npy"))

    statistics = lying_zip(method, "mu.npy")

    with little_memory():
        assert "'a.png' cannot be unpacked" in refusal(zipped(tmp_path / "a.zip"))
        assert "cannot be read as a NumPy archive" in refusal(numpy_archive(tmp_path / "a.npz"))
        with pytest.raises(SpecError, match="not a NumPy archive"):
            Statistics.from_npz(statistics)


@pytest.mark.parametrize("method", [ZIP_BZIP2, ZIP_LZMA])
def test_it_is_said_how_to_pack_instead(tmp_path: Path, method: int) -> None:
    with ZipFile(tmp_path / "a.zip", "w", method) as archive:
        for name, content in PNGS.items():
            archive.writestr(name, content)

    assert f"'000.png' cannot be unpacked: a member is packed by method {method}; pack the archive" in refusal(
        zipped(tmp_path / "a.zip")
    )


@pytest.mark.parametrize("size", [0, 1, 3 * MEBIBYTE])
def test_a_member_is_read_to_its_end_where_its_checksum_is_compared(tmp_path: Path, size: int) -> None:
    content = np.random.default_rng(0).bytes(size)
    with ZipFile(write_zip(tmp_path / "a.zip", {"a": content})) as archive:
        (member,) = archive.infolist()
        require_whole(archive, most_bytes=size)
        assert read_member(archive, member) == content
        member.CRC ^= 1
        with pytest.raises(BadZipFile, match="CRC"):
            read_member(archive, member)


def test_an_archive_of_more_than_is_taken_is_not_unpacked(tmp_path: Path) -> None:
    with (
        ZipFile(write_zip(tmp_path / "a.zip", {"a": bytes(2 * MEBIBYTE), "b": bytes(1)})) as archive,
        pytest.raises(BadZipFile, match="unpacks to 2 MiB; at most 2 are taken"),
    ):
        require_whole(archive, most_bytes=2 * MEBIBYTE)
