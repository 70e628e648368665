"""One log of an attempt in the object store, written in chunks while it grows."""

import threading

import structlog

from workers.contract.keys import AttemptKeys
from workers.logs import in_one_line
from workers.storage import ObjectStore

log = structlog.get_logger()

_CHUNK_BYTES = 256 << 10
_MOST_WAITING_BYTES = 4 << 20
_MOST_BYTES = 256 << 20
_LONGEST_PAUSE_SECONDS = 30.0
_PAUSE_WHEN_CLOSING_SECONDS = 0.5


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
        self._every_seconds, self._most_bytes = every_seconds, most_bytes
        self._last_words = f"[the rest is not kept: a log has at most {most_bytes >> 20} MiB]\n".encode()
        self._waiting, self._num_dropped = bytearray(), 0
        self._in_flight = b""
        self._end: int | None = None
        self._is_full = False
        self._changed = threading.Condition()
        self._closing = threading.Event()
        self._given_up = False
        self._thread = threading.Thread(target=self._run, name=f"log-{source}", daemon=True)
        self._thread.start()

    def write(self, text: str) -> None:
        """Take whole lines. Never waits for the store, never raises."""
        data = text.encode("utf-8", "backslashreplace")
        with self._changed:
            if self._is_full or self._closing.is_set():
                return
            self._waiting += data
            if (excess := len(self._waiting) - _MOST_WAITING_BYTES) > 0:
                dropped = self._waiting.find(b"\n", excess) + 1 or len(self._waiting)
                del self._waiting[:dropped]
                self._num_dropped += dropped
            if len(self._waiting) >= _CHUNK_BYTES:
                self._changed.notify()

    def close(self, timeout_seconds: float) -> bool:
        """Ship what is left, for at most so long; return whether all of it has arrived."""
        with self._changed:
            self._closing.set()
            self._changed.notify()
        self._thread.join(timeout_seconds)
        self._given_up = True
        return not (self._thread.is_alive() or self._waiting or self._in_flight)

    def _run(self) -> None:
        pause = self._every_seconds
        while self._take():
            try:
                self._append(self._in_flight)
            except Exception as error:  # noqa: BLE001 - whatever it is, training must not learn of it
                reason = in_one_line(error)
                log.warning("log.delivery_failed", source=self._source, error=reason, retry_in_seconds=pause)
                if self._closing.wait(pause):
                    threading.Event().wait(min(pause, _PAUSE_WHEN_CLOSING_SECONDS))
                pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)
            else:
                self._in_flight = b""
                pause = self._every_seconds

    def _take(self) -> bool:
        """Put a chunk in flight, unless one already is, as soon as it is full or old enough; False: all is done."""
        with self._changed:
            while not (self._in_flight or self._closing.is_set()):
                self._changed.wait_for(self._is_urgent, self._every_seconds)
                self._load()
            if not self._in_flight:
                self._load()
        return bool(self._in_flight) and not self._given_up

    def _is_urgent(self) -> bool:
        return self._closing.is_set() or len(self._waiting) >= _CHUNK_BYTES

    def _load(self) -> None:
        if self._num_dropped:
            missing = f"[{self._num_dropped} bytes are missing here: the object store did not take them]\n".encode()
            self._waiting[:0], self._num_dropped = missing, 0
        size = _whole(self._waiting)
        self._in_flight = bytes(self._waiting[:size])
        del self._waiting[:size]

    def _append(self, chunk: bytes) -> None:
        if self._end is None:
            self._end = self._find_end()
        if self._is_full:
            return
        last = self._end >= self._most_bytes
        data = self._last_words if last else chunk
        while not self._store.put_if_absent(key := self._keys.log_chunk(self._source, self._end), data):
            if self._store.get(key) == data:  # an earlier try has arrived, and its answer got lost
                break
            self._end = self._find_end()  # another process writes, too: go on behind it
        self._end += len(data)
        if last:
            self._fill()

    def _find_end(self) -> int:
        stream = self._keys.log_stream(self._source)
        chunks = self._store.list(stream)
        if not chunks:
            return 0
        last = self._store.get(chunks[-1])
        if last == self._last_words:
            self._fill()
        return int(chunks[-1].removeprefix(stream).removesuffix(".log")) + len(last)

    def _fill(self) -> None:
        with self._changed:
            self._is_full = True
            self._waiting.clear()


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
