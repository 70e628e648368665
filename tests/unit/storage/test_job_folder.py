"""What a job has left: its newest attempt and its checkpoints."""

from workers.contract.keys import JobKeys
from workers.storage.job_folder import newest_attempt
from workers.storage.memory import MemoryStore

KEYS = JobKeys("job_1")


def test_the_newest_attempt_is_the_highest_that_was_claimed() -> None:
    store = MemoryStore()
    newest = [newest_attempt(store, KEYS)]
    for number in (1, 9999, 10000):
        store.put(KEYS.attempt(number).claim, b"{}")
        newest.append(newest_attempt(store, KEYS))

    store.put(KEYS.attempt(10001).log_chunk("engine", 0), b"what Ray kept of a driver that never ran")

    assert newest == [0, 1, 9999, 10000]
    assert newest_attempt(store, KEYS) == 10000
