"""What a job has left in the store: its attempts, of which the newest fences all others, and its checkpoints."""

from workers.contract.keys import JobKeys
from workers.storage.base import ObjectStore


def attempt_numbers(store: ObjectStore, keys: JobKeys) -> list[int]:
    """Of all attempts that have left anything, in order."""
    return keys.attempt_numbers(store.folders(keys.attempts))


def newest_attempt(store: ObjectStore, keys: JobKeys) -> int:
    """The highest attempt that anyone has claimed; 0 before the first."""
    numbers = reversed(attempt_numbers(store, keys))
    return next((number for number in numbers if _is_claimed(store, keys, number)), 0)


def committed_checkpoints(store: ObjectStore, keys: JobKeys) -> list[str]:
    """The folders of all checkpoints that exist, oldest first."""
    return keys.committed(store.list(keys.checkpoints))


def _is_claimed(store: ObjectStore, keys: JobKeys, number: int) -> bool:
    try:
        store.get(keys.attempt(number).claim)
    except FileNotFoundError:
        return False
    return True
