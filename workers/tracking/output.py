"""What a process prints, shipped to the object store while it runs."""

import sys
import threading
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from typing import Any, TextIO, cast

from workers.contract.keys import AttemptKeys
from workers.storage import ObjectStore
from workers.tracking.log_stream import LogStream
from workers.tracking.redaction import Redaction

_CLOSE_SECONDS = 20.0
_LONGEST_PART = 64 << 10  # characters that may wait for the end of their line


@contextmanager
def shipped_output(
    store: ObjectStore, keys: AttemptKeys, source: str, *, every_seconds: float = 2.0
) -> Iterator[Callable[[str], None]]:
    """Inside, all that Python code prints also goes to the log `source` of an attempt, without the known secrets.

    It still comes out where it did; if that fails, as on a full disk, nothing ends. An exception that leaves this block
    ends the log with its traceback. Leaving waits for at most 20 seconds until all has arrived; until then, nothing
    waits.

    A process that is about to end hard calls what this yields with its last words: they are shipped behind all else,
    in as much time, and end the log.
    """
    redaction = Redaction.of_environment()
    stream = LogStream(store, keys, source, every_seconds=every_seconds)

    def end(last_words: str) -> None:
        stream.write(redaction(last_words))
        stream.close(_CLOSE_SECONDS)

    outputs = [_Output(original, stream, redaction) for original in (sys.stdout, sys.stderr)]
    try:
        with redirect_stdout(cast("TextIO", outputs[0])), redirect_stderr(cast("TextIO", outputs[1])):
            try:
                yield end
            finally:
                for output in outputs:
                    output.finish()
    except BaseException:
        stream.write(redaction(traceback.format_exc()))
        raise
    finally:
        stream.close(_CLOSE_SECONDS)


class _Output:
    """A text stream that is another one, and hands each of its lines on when it is whole."""

    def __init__(self, original: TextIO, stream: LogStream, redaction: Redaction) -> None:
        self._original, self._stream, self._redaction = original, stream, redaction
        self._part = ""
        self._adding = threading.RLock()  # a signal's handler may print while its thread prints

    def write(self, text: str) -> int:
        with suppress(OSError):
            self._original.write(self._redaction(text))  # the engine keeps this, and users see it
        with self._adding:
            lines, newline, self._part = (self._part + text).rpartition("\n")
            self._hand_on(lines + newline)
            if len(self._part) > _LONGEST_PART:
                self._hand_on_part()
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        with suppress(OSError):
            self._original.flush()

    def finish(self) -> None:
        """Hand on a last line that has no end."""
        with self._adding:
            if self._part:
                self._hand_on(f"{self._part}\n")
            self._part = ""

    def _hand_on_part(self) -> None:
        """All but an end in which a secret may have begun."""
        shown = self._redaction(self._part)
        kept = min(len(shown), self._redaction.longest)
        self._part = shown[len(shown) - kept :]
        self._hand_on(shown[: len(shown) - kept])

    def _hand_on(self, text: str) -> None:
        if text:
            self._stream.write(self._redaction(text))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._original, name)
