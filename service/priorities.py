"""Classes of priority. Standard library only, because the SDK is built on it."""

from enum import StrEnum


class Priority(StrEnum):
    """A class of jobs. A higher one goes first, and lower ones make room for it, with a checkpoint."""

    LOW = "low"
    NORMAL = "normal"
    HIGH = "high"

    @property
    def rank(self) -> int:
        return list(Priority).index(self)

    @classmethod
    def of_rank(cls, rank: int) -> "Priority":
        return list(cls)[rank]
