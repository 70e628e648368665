"""Reading a log that grows."""

from dataclasses import replace

import pytest

from service.cluster import MemoryCluster
from service.jobs.logs import LogReader
from service.jobs.objects import JobObjects
from tests.support.jobs import LONG_AGO, attempt
from tests.support.plane import Script
from workers.contract.keys import JobKeys
from workers.storage.memory import MemoryStore

KEYS = JobKeys("job_1").attempt(1)
RUNS = attempt()
OVER = replace(RUNS, ended_at=LONG_AGO)


class Counting(MemoryStore):
    """Counts how often something is listed."""

    def __init__(self) -> None:
        super().__init__()
        self.num_lists, self.end = 0, 0

    def list(self, prefix: str) -> list[str]:
        self.num_lists += 1
        return super().list(prefix)

    def append(self, text: str) -> None:
        data = text.encode()
        self.put(KEYS.log_chunk("driver", self.end), data)
        self.end += len(data)


def reader_of(store: MemoryStore) -> LogReader:
    return LogReader(JobObjects(store, url="memory://tests"), MemoryCluster(Script()))


async def test_who_follows_a_log_lists_its_chunks_once_and_once_more_when_it_is_over() -> None:
    store = Counting()
    reader, offset, seen = reader_of(store), 0, ""
    for number in range(20):
        if number % 3:
            store.append(f"line {number}\n" * (number % 3))
        piece = await reader.read(RUNS, source="driver", offset=offset)
        offset, seen = piece.next_offset, seen + piece.text
        assert not piece.complete
    assert store.num_lists == 1
    store.append("the end\n")

    last = await reader.read(OVER, source="driver", offset=offset)

    assert seen == "".join(f"line {number}\n" * (number % 3) for number in range(20))
    assert (last.text, last.complete, store.num_lists) == ("the end\n", True, 2)


@pytest.mark.parametrize("sizes", [[3 << 20, 10, 10], [1 << 18] * 9, [700_000, 700_000, 700_000], [10]])
async def test_a_log_is_read_whole_whatever_the_sizes_of_its_chunks(sizes: list[int]) -> None:
    store = Counting()
    texts = [f"{number}" * (size - 1) + "\n" for number, size in enumerate(sizes)]
    for text in texts:
        store.append(text)
    for record in (RUNS, OVER):
        reader, offset, seen = reader_of(store), 0, ""
        while (piece := await reader.read(record, source="driver", offset=offset)).text:
            assert len(piece.text) <= 1 << 20
            offset, seen = piece.next_offset, seen + piece.text
        assert seen == "".join(texts)
        assert piece.complete is (record is OVER)


async def test_a_place_within_a_chunk_is_found_and_one_before_a_gap_waits_for_what_is_missing() -> None:
    store = Counting()
    store.append("first\n")
    gap = store.end
    store.end += 7
    store.append("third\n")
    reader = reader_of(store)
    assert not (await reader.read(OVER, source="driver", offset=0)).complete, "what is behind the gap is still to come"

    within = await reader.read(RUNS, source="driver", offset=2)
    waits = await reader.read(RUNS, source="driver", offset=within.next_offset)
    store.put(KEYS.log_chunk("driver", gap), b"second\n")
    on = await reader.read(RUNS, source="driver", offset=waits.next_offset)

    assert (within.text, waits.text, on.text) == ("rst\n", "", "second\nthird\n")
