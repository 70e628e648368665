"""What waits to be told: a little of it in memory, the rest in a file on local disk."""

import errno
import os
import struct
import tempfile
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import IO, Generic, TypeVar

T = TypeVar("T")

MEMORY_BYTES = 4 << 20  # some 1,400 rows of twenty values each
DISK_BYTES = 1 << 30  # 1.3 million such rows: two a second for a week, or fifty for seven hours
_BATCH_BYTES = 4 << 20
_LENGTH = struct.Struct("<I")


class Spool(Generic[T]):
    """First in, first out, and bounded. Not safe between threads.

    The file has no name: it goes when all of it was taken, and with its process, however that ends. What only it held
    is then lost, and that is all right: training goes back to its last checkpoint and measures the same rows again, and
    the service brings MLflow what it lacks, out of the journal, when the job has ended (service/jobs/replay.py).
    """

    def __init__(
        self,
        encode: Callable[[T], bytes],
        decode: Callable[[bytes], T],
        num_bytes: Callable[[T], int],
        *,
        folder: Path,
        memory_bytes: int = MEMORY_BYTES,
        disk_bytes: int = DISK_BYTES,
    ) -> None:
        """`num_bytes` says about what an item takes in memory. There it waits as it is: training waits for encoding."""
        self._encode, self._decode, self._num_bytes = encode, decode, num_bytes
        self._memory: deque[tuple[T, int]] = deque()
        self._free_memory = memory_bytes
        self._disk = _Ring(folder, disk_bytes)

    def __len__(self) -> int:
        return len(self._memory) + len(self._disk)

    def put(self, item: T) -> None:
        """Add an item behind all others.

        Raises:
            OSError: there is no room for it; all others are still there.
        """
        size = self._num_bytes(item)
        is_first = not len(self)  # the only one is kept in memory, however large it is
        if is_first or (not len(self._disk) and size <= self._free_memory):
            self._memory.append((item, size))
            self._free_memory -= size
        else:
            self._disk.put(self._encode(item))

    def take(self, most: int) -> list[T]:
        """Remove the first items, up to `most` or 4 MiB of them, and at least one if there is any.

        Raises:
            OSError, ValueError: the file cannot be read, or is not as it was written.
        """
        items: list[T] = []
        total = 0
        while len(self) and len(items) < most and total < _BATCH_BYTES:
            item, size = self._first()
            items.append(item)
            total += size
        return items

    def clear(self) -> None:
        """Remove everything."""
        self._free_memory += sum(size for _, size in self._memory)
        self._memory.clear()
        self._disk.clear()

    def _first(self) -> tuple[T, int]:
        if not self._memory:
            record = self._disk.take()
            return self._decode(record), len(record)
        item, size = self._memory.popleft()
        self._free_memory += size
        return item, size


class _Ring:
    """Records with their lengths in a file that is written round and round.

    `_begin` and `_end` count all bytes that were ever taken and put. A record counts once all of it is written, so what
    a full disk left of one is overwritten by the next.
    """

    def __init__(self, folder: Path, most_bytes: int) -> None:
        self._folder, self._most_bytes = folder, most_bytes
        self._file: IO[bytes] | None = None
        self._begin = self._end = self._count = 0

    def __len__(self) -> int:
        return self._count

    def put(self, record: bytes) -> None:
        data = _LENGTH.pack(len(record)) + record
        if self._end - self._begin + len(data) > self._most_bytes:
            raise OSError(errno.ENOSPC, f"{self._most_bytes >> 20} MiB wait already, and no more may")
        self._write(data)
        self._end += len(data)
        self._count += 1

    def take(self) -> bytes:
        [length] = _LENGTH.unpack(self._read(self._begin, _LENGTH.size))
        record = self._read(self._begin + _LENGTH.size, length)
        self._begin += _LENGTH.size + length
        self._count -= 1
        if not self._count:
            self.clear()
        return record

    def clear(self) -> None:
        if self._file:
            self._file.close()
        self._file = None
        self._begin = self._end = self._count = 0

    def _write(self, data: bytes) -> None:
        split = self._most_bytes - self._end % self._most_bytes
        for part, place in ((data[:split], self._end % self._most_bytes), (data[split:], 0)):
            if (written := os.pwrite(self._descriptor(), part, place)) < len(part):
                raise OSError(errno.ENOSPC, f"only {written} of {len(part)} bytes could be written")

    def _read(self, begin: int, length: int) -> bytes:
        split = self._most_bytes - begin % self._most_bytes
        data = os.pread(self._descriptor(), min(length, split), begin % self._most_bytes)
        data += os.pread(self._descriptor(), max(length - split, 0), 0)
        if len(data) < length:
            raise OSError(errno.EIO, f"only {len(data)} of {length} bytes could be read")
        return data

    def _descriptor(self) -> int:
        if self._file is None:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._file = tempfile.TemporaryFile(dir=self._folder, buffering=0)  # noqa: SIM115 (clear() closes it)
        return self._file.fileno()
