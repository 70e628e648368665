"""One log of an attempt in the object store, written in chunks while it grows."""

from workers.contract.keys import AttemptKeys
from workers.storage import ObjectStore
from workers.tracking.background import Background

_CHUNK_BYTES = 256 << 10
_MOST_WAITING_BYTES = 4 << 20
_MOST_BYTES = 256 << 20


class LogStream:
    """Appends text to the stream of one source, in the background; see `AttemptKeys.log_chunk`.

    Nothing in the store is ever overwritten: a process that is started anew within an attempt goes on behind what the
    one before it wrote, and if both write, their chunks follow each other. Memory is bounded: while the store does not
    answer, the oldest text is dropped, and a line says so.
    """

    def __init__(
        self,
        store: ObjectStore,
        keys: AttemptKeys,
        source: str,
        *,
        every_seconds: float = 2.0,
        most_bytes: int = _MOST_BYTES,
    ) -> None:
        """A stream that has come to `most_bytes` ends with a line that says so."""
        self._store, self._keys, self._source = store, keys, source
        self._most_bytes = most_bytes
        self._last_words = f"[the rest is not kept: a log has at most {most_bytes >> 20} MiB]\n".encode()
        self._end: int | None = None
        self._is_full = self._is_closed = False
        self._background = Background(f"log-{source}", self._append, _TextBacklog(), every_seconds=every_seconds)

    def write(self, text: str) -> None:
        """Take whole lines. Never waits for the store, never raises."""
        if not (self._is_full or self._is_closed):
            self._background.offer(text.encode("utf-8", "backslashreplace"))

    def close(self, timeout_seconds: float) -> bool:
        """Ship what is left, for at most so long; return whether all of it has arrived."""
        self._is_closed = True
        return not self._background.close(timeout_seconds)

    def _append(self, chunk: bytes) -> None:
        if self._end is None:
            self._end = self._find_end()
        while not self._is_full:
            is_last = self._end >= self._most_bytes
            data = self._last_words if is_last else chunk
            key = self._keys.log_chunk(self._source, self._end)
            if self._store.put_if_absent(key, data) or self._store.get(key) == data:  # of an earlier try, unanswered
                self._end += len(data)
                self._is_full = is_last
                return
            self._end = self._find_end()  # another process writes, too: go on behind it

    def _find_end(self) -> int:
        chunks = self._store.list(self._keys.log_stream(self._source))
        starts = self._keys.log_starts(self._source, chunks)
        if not starts:
            return 0
        last = self._store.get(self._keys.log_chunk(self._source, starts[-1]))
        self._is_full = last == self._last_words
        return starts[-1] + len(last)


class _TextBacklog:
    """What a store that does not answer has cost is a line of its own, so nothing goes untold."""

    def __init__(self) -> None:
        self._text, self._num_dropped = bytearray(), 0

    def __len__(self) -> int:
        return len(self._text) + self._num_dropped

    @property
    def has_batch(self) -> bool:
        return len(self._text) >= _CHUNK_BYTES

    def put(self, item: bytes) -> int:
        self._text += item
        if (excess := len(self._text) - _MOST_WAITING_BYTES) > 0:
            dropped = self._text.find(b"\n", excess) + 1 or len(self._text)
            del self._text[:dropped]
            self._num_dropped += dropped
        return 0

    def take(self) -> bytes:
        if self._num_dropped:
            missing = f"[{self._num_dropped} bytes are missing here: the object store did not take them]\n".encode()
            self._text[:0], self._num_dropped = missing, 0
        size = _whole(self._text)
        chunk = bytes(self._text[:size])
        del self._text[:size]
        return chunk


def _whole(data: bytearray) -> int:
    """How many bytes make a chunk: whole lines if one fits, else whole characters."""
    if len(data) <= _CHUNK_BYTES:
        return len(data)
    if end := data.rfind(b"\n", 0, _CHUNK_BYTES) + 1:
        return end
    end = _CHUNK_BYTES
    while data[end] & 0b1100_0000 == 0b1000_0000:  # inside a character
        end -= 1
    return end
