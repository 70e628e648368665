"""What can be said of a run."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Metrics:
    """Values at a point of training, with the wall time (Unix seconds) they were measured at."""

    images_seen: int
    time: float
    values: dict[str, float]


@dataclass(frozen=True, slots=True)
class Grid:
    """A picture at a point of training, as PNG."""

    images_seen: int
    time: float
    png: bytes


@dataclass(frozen=True, slots=True)
class Checkpointed:
    """A checkpoint was committed at this URI."""

    images_seen: int
    uri: str


@dataclass(frozen=True, slots=True)
class Ended:
    """The run is over, as MLflow names it."""

    status: Literal["FINISHED", "FAILED", "KILLED"]


Event = Metrics | Grid | Checkpointed | Ended
