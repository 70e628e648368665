"""What a folder, a ZIP and a tar file have in common: named files. Nothing is unpacked to disk."""

import errno
import gzip
import os
import re
import stat
import tarfile
import zlib
from array import array
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import Self
from zipfile import BadZipFile, ZipFile

from workers.data.errors import DatasetError, ImageError
from workers.data.pixels import DECODERS
from workers.storage.files import open_regular
from workers.zips import read_member, require_all_members

_BLOCK = 1 << 20
_MAX_UNPACKED_BYTES = 1 << 30  # CIFAR has 0.2
MAX_FILE_BYTES = 256 << 20
_SPLITS_SHOWN = 10
_PART_OF_A_SPLIT = re.compile(r"(.+)-\d+-of-\d+(-[0-9a-f]+)?\.\w+")  # as `datasets` names the files it writes

# RuntimeError: encrypted, or of a later version
_UNPACKING_ERRORS = (BadZipFile, OSError, EOFError, RuntimeError, zlib.error)


@dataclass(frozen=True, slots=True)
class Files:
    """Names with slashes, and the bytes behind them; `read` raises ImageError and may run in any thread.

    `num_readers` of them had best be read at a time.
    """

    names: list[str]
    read: Callable[[str], bytes]
    num_readers: int = DECODERS


def files_at(path: Path, suffix: str, *, split: str | None) -> list[Path]:
    """The file at a path, or those of a folder that end so, by their names; of them those of one split.

    Raises:
        DatasetError: there is none in it, or something that is no file; as `of_one_split`.
    """
    if not path.exists():
        return [path]  # who reads it says so
    found = {each.name: each for each in (sorted(path.glob(f"*{suffix}")) if path.is_dir() else [path])}
    if not found:
        raise DatasetError(f"{path}: no {suffix} file in it")
    chosen = [found[name] for name in of_one_split([*found], split, str(path))]
    for each in chosen:
        require_regular(each)
    return chosen


def of_one_split(names: list[str], split: str | None, place: str) -> list[str]:
    """Of the files of a folder, NAME-00000-of-00010 and so on, those of a split; None: all, if no two splits are there.

    Training and test images are not to become one set.

    Raises:
        DatasetError: naming the splits: there are several to choose from, or not the one that is wanted.
    """
    found = defaultdict[str, list[str]](list)
    for name in names:
        if match := _PART_OF_A_SPLIT.fullmatch(name):
            found[match[1]].append(name)
    splits = sorted(found)
    shown = ", ".join(splits[:_SPLITS_SHOWN]) + (", ..." if len(splits) > _SPLITS_SHOWN else "")
    if split is None and len(splits) > 1:
        example = "train" if "train" in found else splits[0]
        raise DatasetError(f"{place}: holds several splits, {shown}; choose one of them, such as split: {example}")
    if split is not None and split not in found:
        has = f"it has {shown}" if found else f"no file in it is named {split}-00000-of-00001 or the like"
        raise DatasetError(f"{place}: no split {split!r} in it; {has}")
    return names if split is None else found[split]


def require_regular(path: Path) -> None:
    """Let through files, folders, and what cannot be looked at: its reader says why.

    Raises:
        DatasetError: it is something else: a pipe would be waited for, and a device may have no end.
    """
    try:
        mode = path.stat().st_mode
    except OSError:
        return
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
        raise DatasetError(f"{path}: is no regular file; name one where the workers run")


def folder_files(root: Path) -> Files:
    if root.is_file():
        raise DatasetError(f'{root}: is a file, not a folder; for a ZIP use "kind": "zip"')
    if not root.exists():
        raise DatasetError(f"{root}: no such folder where the workers run")

    def read(name: str) -> bytes:
        try:
            with open_regular(root / name) as file:
                size = os.fstat(file.fileno()).st_size
                check_size(size)
                return file.read(size)
        except OSError as error:
            raise ImageError(f"cannot be read: {error.strerror}") from error

    return Files([path.relative_to(root).as_posix() for path in _walk(root)], read)


def _walk(root: Path) -> Iterator[Path]:
    def refuse(error: OSError) -> None:
        raise DatasetError(f"{error.filename}: {error.strerror}")

    seen: set[str] = set()
    for folder, _, names in os.walk(root, onerror=refuse, followlinks=True):
        if os.path.realpath(folder) in seen:
            raise DatasetError(f"{folder}: is a link to a folder that is already part of the data set; remove the link")
        seen.add(os.path.realpath(folder))
        yield from (Path(folder) / name for name in names)


@contextmanager
def zip_files(path: Path) -> Iterator[Files]:
    if path.is_dir():
        raise DatasetError(f'{path}: is a folder, not a ZIP; use "kind": "folder"')
    try:
        archive = ZipFile(path)
        require_all_members(archive)
    except FileNotFoundError:
        raise DatasetError(f"{path}: no such file where the workers run") from None
    except (BadZipFile, OSError, NotImplementedError, UnicodeDecodeError) as error:  # of a later version; odd names
        raise DatasetError(f"{path}: cannot be read as a ZIP: {error}") from error
    members = {member.filename: member for member in archive.infolist() if not member.is_dir()}

    def read(name: str) -> bytes:
        try:
            check_size(members[name].file_size)
            return read_member(archive, members[name])
        except _UNPACKING_ERRORS as error:
            raise ImageError(f"cannot be unpacked: {error}") from error

    with archive:
        yield Files(list(members), read)


@contextmanager
def tar_files(path: Path, *, compressed: bool) -> Iterator[Files]:
    """Links, devices and whatever else is no plain file are left out. `compressed`: with gzip; then read in order.

    An archive must be whole to its end: tarfile itself takes damage for the end.
    """
    kind = "tar.gz file" if compressed else "tar file that is not compressed"
    with ExitStack() as stack:
        try:
            if compressed:
                _check_gzip(path)
            archive = stack.enter_context(tarfile.open(path, "r:gz" if compressed else "r:"))
            members = _Members.of(archive)
            _check_end(archive, compressed=compressed)
        except FileNotFoundError:
            raise DatasetError(f"{path}: no such file where the workers run") from None
        except Exception as error:  # there is nothing that a damaged header may not raise
            mend = "; raise the limit of open files, ulimit -n" if _is_of_many_files(error) else ""
            raise DatasetError(f"{path}: cannot be read as a {kind}: {error or type(error).__name__}{mend}") from error
        lock = Lock()  # all members are read through one open file

        def read(name: str) -> bytes:
            offset, size = members.place(name)
            check_size(size)
            try:
                with lock:
                    return _part(archive, offset, size)
            except Exception as error:  # as above
                raise ImageError(f"cannot be unpacked: {error}") from error

        yield Files(list(members.numbers), read)


@dataclass(frozen=True, slots=True)
class _Members:
    """Where in a tar file what lies. An archive may have millions: tarfile itself would keep a kilobyte of each."""

    numbers: dict[str, int] = field(default_factory=dict)
    _offsets: "array[int]" = field(default_factory=lambda: array("Q"))
    _sizes: "array[int]" = field(default_factory=lambda: array("Q"))

    @classmethod
    def of(cls, archive: tarfile.TarFile) -> Self:
        """Raises: OSError. One of them is sparse."""
        found = cls()
        while member := archive.next():
            archive.members.clear()  # type: ignore[attr-defined] # its stubs lack them
            if member.issparse():
                raise OSError(f"{member.name} in it is sparse; pack it without --sparse")
            if member.isfile():
                found.numbers[member.name] = len(found._offsets)
                found._offsets.append(member.offset_data)
                found._sizes.append(member.size)
        return found

    def place(self, name: str) -> tuple[int, int]:
        """Its first byte, and how many they are."""
        number = self.numbers[name]
        return self._offsets[number], self._sizes[number]


def _part(archive: tarfile.TarFile, offset: int, size: int) -> bytes:
    if archive.fileobj is None:
        raise OSError("is closed")
    archive.fileobj.seek(offset)
    data = archive.fileobj.read(size)
    if len(data) < size:
        raise OSError("unexpected end of data")
    return data


def _check_gzip(path: Path) -> None:
    """Unpack it once to nowhere: that compares its checksum, and a small file can unpack to more than memory."""
    total = 0
    with gzip.open(path) as file:
        while block := file.read(_BLOCK):
            if (total := total + len(block)) > _MAX_UNPACKED_BYTES:
                raise OSError(f"unpacks to more than {_MAX_UNPACKED_BYTES >> 30} GiB")


def _check_end(archive: tarfile.TarFile, *, compressed: bool) -> None:
    """After the last member there are zeros, at least a block of them, and nothing else."""
    if archive.fileobj is None:
        raise OSError("is closed")
    if not compressed:  # the checksum of gzip covers the last header, and going back in it is slow
        archive.fileobj.seek(archive.offset)
        if archive.fileobj.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
            raise OSError(f"is cut off or damaged at byte {archive.offset}")
    while block := archive.fileobj.read(_BLOCK):
        if block.count(0) != len(block):
            raise OSError(f"is damaged after byte {archive.offset}")


def _is_of_many_files(error: Exception) -> bool:
    return isinstance(error, OSError) and error.errno == errno.EMFILE


def check_size(num_bytes: int) -> None:
    """Before that many bytes of an image are unpacked.

    Raises:
        ImageError: no image of a sane number of pixels has so many.
    """
    if num_bytes > MAX_FILE_BYTES:
        raise ImageError(f"is larger than {MAX_FILE_BYTES >> 20} MiB", mend="make the images smaller")
