"""What can be said of a run."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from workers.contract.records import OutcomeStatus

MlflowStatus = Literal["FINISHED", "FAILED", "KILLED"]
MLFLOW_STATUS: Mapping[OutcomeStatus, MlflowStatus] = {"succeeded": "FINISHED", "failed": "FAILED", "stopped": "KILLED"}


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
    """The run is over."""

    status: MlflowStatus


Event = Metrics | Grid | Checkpointed | Ended

_EVENT_BYTES, _VALUE_BYTES = 200, 150  # a value with its name and its place in a dictionary


def num_bytes(event: Event) -> int:
    """About what an event takes in memory."""
    match event:
        case Metrics():
            return _EVENT_BYTES + _VALUE_BYTES * len(event.values)
        case Grid():
            return _EVENT_BYTES + len(event.png)
        case _:
            return _EVENT_BYTES
