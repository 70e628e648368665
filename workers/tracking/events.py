"""What can be said of a run."""

import json
from dataclasses import dataclass, fields
from typing import Literal, get_args


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

_EVENT_BYTES, _VALUE_BYTES = 200, 150  # a value with its name and its place in a dictionary

_KINDS: dict[str, type[Event]] = {kind.__name__: kind for kind in get_args(Event)}


def num_bytes(event: Event) -> int:
    """About what an event takes in memory."""
    match event:
        case Metrics():
            return _EVENT_BYTES + _VALUE_BYTES * len(event.values)
        case Grid():
            return _EVENT_BYTES + len(event.png)
        case _:
            return _EVENT_BYTES


def encode(event: Event) -> bytes:
    """An event as bytes: a line of JSON, and behind it the picture if it has one."""
    told = {field.name: getattr(event, field.name) for field in fields(event)}
    png: bytes = told.pop("png", b"")
    return json.dumps([type(event).__name__, told]).encode() + b"\n" + png


def decode(record: bytes) -> Event:
    """The event that was encoded."""
    line, _, png = record.partition(b"\n")
    kind, told = json.loads(line)
    if kind == Grid.__name__:
        told["png"] = png
    return _KINDS[kind](**told)
