"""What the service says about itself and about refused requests."""

from enum import StrEnum
from typing import Annotated, Generic, TypeVar, cast

from pydantic import BaseModel, ConfigDict, Field
from pydantic.config import JsonDict

from workers.contract.document import Document

Row = TypeVar("Row")

# For texts that people write: no control characters. Postgres cannot keep NUL, and terminals obey the others.
PLAIN_TEXT = r"^[^\x00-\x1f\x7f]*$"


class View(BaseModel):
    """A value the service answers with. Readers ignore fields they do not know, so that new ones may be added."""

    model_config = ConfigDict(frozen=True, extra="ignore")


def without_default(schema: JsonDict) -> None:
    """For the schema of a field that says something else when it is left out: generated clients send defaults."""
    schema.pop("default", None)


def _without_defaults(schema: JsonDict) -> None:
    for field in cast(dict[str, JsonDict], schema.get("properties", {})).values():
        without_default(field)


class Changes(Document):
    """A request to change something: a field that is not given stays as it is."""

    model_config = ConfigDict(json_schema_extra=_without_defaults)


class PageOf(View, Generic[Row]):
    """Some rows of a list. The next ones are those of `next_cursor`."""

    data: tuple[Row, ...]
    has_more: bool
    next_cursor: str | None


class Scope(StrEnum):
    """What an API key may be used for."""

    READ = "jobs:read"
    WRITE = "jobs:write"
    ADMIN = "admin"


class FieldProblem(View):
    """One wrong field of a request, by RFC 6901 JSON pointer into its body."""

    pointer: str
    code: str
    message: str


class BaseProblem(View):
    """What every problem document has."""

    type: str
    title: str
    status: int
    detail: str
    instance: str
    code: str
    request_id: str
    errors: tuple[FieldProblem, ...]


class ProblemDetails(BaseProblem):
    """An error, as RFC 9457 has it (`application/problem+json`)."""

    current_state: Annotated[str | None, Field(description="With `state_conflict`: of the job")] = None
    allowed: Annotated[
        tuple[str, ...] | None, Field(description="With `state_conflict`: the verbs that are possible instead")
    ] = None
    current_etag: Annotated[
        str | None, Field(description="With `precondition_failed`: of the present state, if that has one")
    ] = None
    required_scope: Annotated[str | None, Field(description="With `forbidden`: what the key would need")] = None
    location: Annotated[
        str | None, Field(description="With `idempotency_answer_not_kept`: where what was created is, if it is known")
    ] = None


class DependencyReadiness(View):
    """Whether one thing the service needs answers, and if not, what kind of failure there was; its log says more."""

    ready: bool
    detail: str | None


class Readiness(View):
    """Whether jobs can be taken and run now."""

    ready: bool
    dependencies: dict[str, DependencyReadiness]
