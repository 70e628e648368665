"""The attempts at a job, and whether one may still write what users see: a later one, once claimed, fences it."""

from workers.contract.keys import JobKeys
from workers.storage import ObjectStore


def attempt_numbers(store: ObjectStore, keys: JobKeys) -> list[int]:
    """Of all attempts that have left anything, in order."""
    return sorted(int(name) for name in store.folders(keys.attempts) if name.isdecimal())


def newest_attempt(store: ObjectStore, keys: JobKeys) -> int:
    """The highest attempt that anyone has claimed; 0 before the first."""
    numbers = reversed(attempt_numbers(store, keys))
    return next((number for number in numbers if _is_claimed(store, keys, number)), 0)


def _is_claimed(store: ObjectStore, keys: JobKeys, number: int) -> bool:
    try:
        store.get(keys.attempt(number).claim)
    except FileNotFoundError:
        return False
    return True
