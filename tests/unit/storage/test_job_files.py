"""Files that a job names by URL: uploads out of their parts, and what was brought from the web."""

from hashlib import sha256

import pytest

from tests.support.uploads import UPLOAD, uploaded
from workers.contract.keys import JobKeys, UploadKeys
from workers.storage import JobFiles, ObjectStore, read_beginning, read_location
from workers.storage.memory import MemoryStore

CONTENT = bytes(range(256)) * 5
URL = "https://example.org/statistics.npz?revision=1"


def job_files(store: ObjectStore) -> JobFiles:
    return JobFiles(store, JobKeys("job_1"))


@pytest.mark.parametrize("part_bytes", [1, 500, 10**6])
def test_an_upload_is_read_whole_or_its_beginning(part_bytes: int) -> None:
    own = job_files(uploaded(CONTENT, part_bytes=part_bytes))

    assert read_location(UPLOAD, most_bytes=len(CONTENT), job_files=own) == CONTENT
    for size in (0, 1, 499, 501, 10**6):
        assert read_beginning(UPLOAD, size, job_files=own) == CONTENT[:size]


def test_one_that_is_larger_than_it_may_be_is_not_read() -> None:
    with pytest.raises(OSError, match=f"^cannot read {UPLOAD}: it is larger than 0 MiB; name a smaller file$"):
        read_location(UPLOAD, most_bytes=len(CONTENT) - 1, job_files=job_files(uploaded(CONTENT)))


def test_one_that_is_not_what_was_sent_or_is_gone_is_asked_for_again() -> None:
    found, sent = sha256(CONTENT).hexdigest(), "0" * 64
    damaged, torn = uploaded(CONTENT, sha256=sent), uploaded(CONTENT)
    torn.delete(UploadKeys(UPLOAD.removeprefix("upload://")).part(1))

    for store, words in (
        (damaged, f"its sha256 is {found}, not {sent}; upload the file again"),
        (torn, "its part 1 is not there; upload the file again"),
        (MemoryStore(), "there is no such upload any more; upload the file again"),
    ):
        with pytest.raises(OSError, match=f"^cannot read {UPLOAD}: {words}$"):
            read_location(UPLOAD, most_bytes=10**6, job_files=job_files(store))


def test_a_file_of_the_web_is_read_as_it_was_brought_for_this_job_and_for_no_other() -> None:
    store = MemoryStore()
    store.put(JobKeys("job_1").brought(URL), CONTENT)

    assert read_location(URL, most_bytes=10**6, job_files=job_files(store)) == CONTENT
    assert read_beginning(URL, 9, job_files=job_files(store)) == CONTENT[:9]
    with pytest.raises(FileNotFoundError, match="where the workers run"):
        read_location(URL, most_bytes=10**6, job_files=JobFiles(store, JobKeys("job_2")))


@pytest.mark.parametrize("place", [UPLOAD, URL])
def test_without_a_job_there_is_none_of_either(place: str) -> None:
    with pytest.raises(ValueError, match="cannot open a store"):
        read_location(place, most_bytes=10**6)


def test_the_beginning_of_an_upload_costs_no_more_than_it_is_long() -> None:
    class Counting(MemoryStore):
        def part(self, key: str, offset: int, size: int) -> bytes:
            asked.append((offset, size))
            return super().part(key, offset, size)

    asked, store = list[tuple[int, int]](), Counting()
    uploaded(CONTENT, into=store, part_bytes=500)

    assert read_beginning(UPLOAD, 508, job_files=job_files(store)) == CONTENT[:508]
    assert sorted(asked) == [(0, 8), (0, 500)]
