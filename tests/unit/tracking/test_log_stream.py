"""A log in the object store: whole, in order, never overwritten, bounded."""

import threading

import pytest

from tests.support.waiting import wait_until
from workers.contract.keys import JobKeys
from workers.storage.memory import MemoryStore
from workers.tracking.log_stream import LogStream

KEYS = JobKeys("job_1").attempt(1)
CHUNK_BYTES = 256 << 10


class Unreliable(MemoryStore):
    """Fails as often as it is told to; `answers_lost`: after it has written."""

    def __init__(self, *, failures: int, answers_lost: bool = False) -> None:
        super().__init__()
        self._failures, self._answers_lost = failures, answers_lost

    def put_if_absent(self, key: str, data: bytes) -> bool:
        if self._failures:
            self._failures -= 1
            if self._answers_lost:
                super().put_if_absent(key, data)
            raise ConnectionError("away")
        return super().put_if_absent(key, data)


class Stuck(MemoryStore):
    """Does not answer until it is released."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = False
        self.released = threading.Event()

    def put_if_absent(self, key: str, data: bytes) -> bool:
        self.asked = True
        assert self.released.wait(60)
        return super().put_if_absent(key, data)


def opened(store: MemoryStore, **options: int) -> LogStream:
    return LogStream(store, KEYS, "driver", every_seconds=0.01, **options)


def chunks(store: MemoryStore) -> list[bytes]:
    """Each at the byte where the one before it ends."""
    found, start = [], 0
    for key in store.list(KEYS.log_stream("driver")):
        assert key == KEYS.log_chunk("driver", start)
        found.append(store.get(key))
        start += len(found[-1])
    return found


def text(store: MemoryStore) -> str:
    return b"".join(chunks(store)).decode()


def test_lines_arrive_while_the_stream_is_open() -> None:
    store = MemoryStore()
    stream = opened(store)

    stream.write("one\n")

    wait_until(lambda: text(store) == "one\n")
    stream.write("two\n")
    assert stream.close(10)
    assert chunks(store) == [b"one\n", b"two\n"]


def test_much_text_comes_in_chunks_of_whole_lines() -> None:
    store = MemoryStore()
    stream = LogStream(store, KEYS, "driver", every_seconds=60)
    lines = [f"line {number} {'ä' * 300}\n" for number in range(3000)]

    for line in lines:
        stream.write(line)
    wait_until(lambda: len(chunks(store)) >= 3)  # long before the time is up

    assert stream.close(10)
    assert text(store) == "".join(lines)
    assert all(len(chunk) <= CHUNK_BYTES and chunk.endswith(b"\n") for chunk in chunks(store))


def test_a_line_longer_than_a_chunk_is_cut_between_characters() -> None:
    store = MemoryStore()
    stream = opened(store)
    line = "x" + "ä" * CHUNK_BYTES + "\n"

    stream.write(line)

    assert stream.close(10)
    assert "".join(chunk.decode() for chunk in chunks(store)) == line
    assert len(chunks(store)) == 3


def test_what_cannot_be_encoded_is_written_as_an_escape() -> None:
    store = MemoryStore()
    stream = opened(store)

    stream.write("\udcff\n")

    assert stream.close(10)
    assert text(store) == "\\udcff\n"


def test_a_process_that_is_started_anew_goes_on_behind_the_one_before() -> None:
    store = MemoryStore()

    for words in ("first\n", "second\n", "third\n"):
        stream = opened(store)
        stream.write(words)
        assert stream.close(10)

    assert chunks(store) == [b"first\n", b"second\n", b"third\n"]


def test_two_processes_that_write_the_same_log_overwrite_nothing() -> None:
    store = MemoryStore()
    old, new = opened(store), opened(store)

    for number in range(20):
        for name, stream in (("old", old), ("new", new)):
            line = f"{name} {number}\n"
            stream.write(line)
            wait_until(lambda line=line: line in text(store))  # type: ignore[misc] # mypy cannot infer the default

    assert old.close(10)
    assert new.close(10)
    assert text(store) == "".join(f"old {number}\nnew {number}\n" for number in range(20))


@pytest.mark.parametrize("answers_lost", [False, True])
def test_while_the_store_fails_nothing_is_lost_or_doubled(answers_lost: bool) -> None:
    store = Unreliable(failures=3, answers_lost=answers_lost)
    stream = opened(store)

    stream.write("one\n")
    stream.write("two\n")

    assert stream.close(30)
    assert text(store) == "one\ntwo\n"


def test_a_store_that_does_not_answer_costs_the_oldest_lines_and_a_line_says_so() -> None:
    store = Stuck()
    stream = opened(store)
    stream.write("in flight\n")
    wait_until(lambda: store.asked)

    for number in range(60_000):
        stream.write(f"{number:099d}\n")
    store.released.set()

    assert stream.close(30)
    first, missing, *rest = text(store).splitlines()
    assert first == "in flight"
    assert missing == f"[{6_000_000 - 100 * len(rest)} bytes are missing here: the object store did not take them]"
    assert [int(line) for line in rest] == list(range(60_000 - len(rest), 60_000))
    assert len(rest) * 100 <= 4 << 20


def test_a_store_that_never_answers_holds_nobody_up_at_the_end() -> None:
    store = Stuck()
    stream = opened(store)
    stream.write("lost\n")

    assert not stream.close(0.05)
    store.released.set()


def test_a_log_that_has_become_too_long_ends_with_a_line_that_says_so() -> None:
    store = MemoryStore()
    for _ in range(2):  # the second as if the process had been started anew
        stream = opened(store, most_bytes=1 << 20)
        for number in range(20_000):
            stream.write(f"{number:099d}\n")
            if number % 2000 == 0:
                assert stream._background.flush(10)
        stream.close(10)

    assert text(store).splitlines()[-1] == "[the rest is not kept: a log has at most 1 MiB]"
    assert text(store).count("not kept") == 1
    assert 1 << 20 <= sum(map(len, chunks(store))) <= (1 << 20) + CHUNK_BYTES + 100
