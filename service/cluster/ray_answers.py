"""Ray's answers, as far as they are read; whatever else comes is no answer."""

import json
from typing import Annotated, Generic, TypeVar

from pydantic import BaseModel, Field, RootModel, ValidationError

from service.cluster.base import ClusterUnreachable, Run, RunStatus


class Version(BaseModel):
    session_name: Annotated[str, Field(min_length=1)]


class Submitted(BaseModel):
    submission_id: str


class Stopped(BaseModel):
    """It says true even where nothing happens."""

    stopped: bool


class Deleted(BaseModel):
    deleted: bool


class Job(BaseModel):
    """A submission, or (without an id) a driver that connected by itself."""

    submission_id: str | None
    status: RunStatus
    error_type: str | None = None
    message: str | None = None
    metadata: dict[str, str] | None = None

    def run(self, submission_id: str) -> Run:
        return Run(
            submission_id=submission_id,
            status=self.status,
            error_type=self.error_type,
            message=self.message,
            metadata=self.metadata or {},
        )


class Jobs(RootModel[list[Job]]):
    """The whole table."""


class Logs(BaseModel):
    logs: str | None


class Raylet(BaseModel):
    node_id: Annotated[str, Field(alias="nodeId")]
    state: str
    total: Annotated[dict[str, float], Field(alias="resourcesTotal")]


class Node(BaseModel):
    raylet: Raylet


class NodeSummary(BaseModel):
    """`usage` is prose about each node ("2.0/4.0 CPU (...)"), and empty on a head without a monitor."""

    summary: list[Node]
    usage: Annotated[dict[str, str], Field(alias="nodeLogicalResources")]

    @property
    def living(self) -> list[Raylet]:
        return [node.raylet for node in self.summary if node.raylet.state == "ALIVE"]


class Nodes(BaseModel):
    data: NodeSummary


class Bundle(BaseModel):
    unit_resources: dict[str, float]


class PlacementGroup(BaseModel):
    bundles: list[Bundle]


class Actor(BaseModel):
    placement_group_id: str | None
    required_resources: dict[str, float]


Entry = TypeVar("Entry", bound=BaseModel)


class Rows(BaseModel, Generic[Entry]):
    result: list[Entry]


class Page(BaseModel, Generic[Entry]):
    result: Rows[Entry]


class Listing(BaseModel, Generic[Entry]):
    """How the state interface answers."""

    data: Page[Entry]

    @property
    def entries(self) -> list[Entry]:
        return self.data.result.result


class Groups(Listing[PlacementGroup]):
    pass


class Actors(Listing[Actor]):
    pass


Document = TypeVar("Document", bound=BaseModel)


def read(kind: type[Document], body: bytes) -> Document:
    """The document in an answer.

    Raises:
        ClusterUnreachable: it is none, or not this one.
    """
    try:
        return kind.model_validate_json(body)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(map(str, first["loc"])) or "the document"
        raise ClusterUnreachable(f"an answer that is not Ray's: {place}: {first['msg']}") from None


def read_beginning(body: bytes) -> str:
    """The log in an answer of which only the first bytes are there."""
    for lost in range(_LONGEST_ESCAPE):
        try:
            return str(json.loads(body[: len(body) - lost] + b'"}')["logs"])
        except (ValueError, LookupError, TypeError):
            continue
    raise ClusterUnreachable("an answer that is not Ray's: a long one without a log")


_LONGEST_ESCAPE = len(r"\u0000") + 1
