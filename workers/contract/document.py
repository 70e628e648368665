"""The base of every document that crosses a boundary, and how a refused document is explained."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated, Any, Protocol, TypeVar

from pydantic import BaseModel, ConfigDict, Field, Strict, ValidationError
from pydantic_core import PydanticCustomError

from workers.contract.mends import mend_of, remember, tags_of

# pydantic puts the chosen member of a tagged union into the path of a problem; users do not write it there.
_UNION_TAGS: set[str] = set()


class Document(BaseModel):
    """A frozen value that refuses unknown fields and does not guess types (`"5"` is not a number)."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        super().__pydantic_init_subclass__(**kwargs)
        remember(cls)
        _UNION_TAGS.update(tags_of(cls))


Record = TypeVar("Record", bound=Document)
LENIENT = object()  # the context of validation in which words of another release are put up with, where fields say so


def read_leniently(kind: type[Record], text: str | bytes) -> Record | None:
    """A record that may be of another release: unknown fields are passed over. None if it cannot be read at all."""
    try:
        return kind.model_validate_json(text, extra="ignore", context=LENIENT)
    except ValidationError:
        return None


Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
# JSON has lists where Python has tuples; strictness is kept for what is inside. Of lists the first wrong item is named:
# tens of thousands fit into a request.
PositiveInts = Annotated[tuple[Annotated[int, Field(gt=0)], ...], Strict(False), Field(fail_fast=True)]


@dataclass(frozen=True, slots=True)
class Problem:
    """One wrong field: where it is (RFC 6901 JSON pointer), what is wrong, and what would be right."""

    pointer: str
    code: str
    message: str

    def __str__(self) -> str:
        return f"{self.pointer.strip('/').replace('/', '.') or 'document'}: {self.message}"


def refuse(*problems: Problem) -> None:
    """Refuse a document whose fields are right one by one and wrong together, naming every such field at once.

    Raises:
        PydanticCustomError: inside a model validator, if there is any problem; `problems_of` unfolds it again.
    """
    if problems:
        message = "; ".join(map(str, problems)).replace("{", "{{").replace("}", "}}")
        raise PydanticCustomError("crossed_fields", message, {"problems": problems})


class SpecError(ValueError):
    """What a document names does not fit, or cannot be had; the message says what to change.

    `field`: which it is, dotted; empty as long as that is not known.
    """

    def __init__(self, reason: str, field: str = "") -> None:
        super().__init__(reason, field)
        self.reason, self.field = reason, field

    def __str__(self) -> str:
        return f"{self.field}: {self.reason}" if self.field else self.reason


@contextmanager
def in_field(name: str) -> Iterator[None]:
    """What is wrong in here is wrong in this field of a document, or in a field within it."""
    try:
        yield
    except SpecError as error:
        raise SpecError(error.reason, f"{name}.{error.field}" if error.field else name) from error.__cause__


class Refusal(Protocol):
    """pydantic's ValidationError, or what a web framework makes of it."""

    def errors(self) -> Sequence[Any]: ...


def problems_of(error: Refusal) -> list[Problem]:
    """Every problem of a refused document, field by field."""
    title = getattr(error, "title", "")
    return [problem for detail in error.errors() for problem in _unfold(detail, title)]


def _unfold(detail: Any, title: str) -> Iterator[Problem]:
    *parents, last = detail["loc"] or ("",)
    is_unknown = detail["type"] == "extra_forbidden"  # then the last part is what a user wrote, whatever it reads like
    parts = [part for part in parents if part not in _UNION_TAGS]
    parts += [last] if is_unknown or last not in _UNION_TAGS else []
    path = "".join(f"/{part}" for part in parts if part != "")
    if detail["type"] == "crossed_fields":
        for problem in detail["ctx"]["problems"]:
            yield Problem(path + problem.pointer, problem.code, problem.message)
        return
    if detail["type"] == "union_tag_invalid":  # what is wrong is the field that chooses
        path += "/" + detail["ctx"]["discriminator"].strip("'")
    yield Problem(path, detail["type"], mend_of(detail, title=title))


def flattened(document: Document) -> dict[str, str]:
    """The leaves of a document by their dotted path, as text: `{"network.channels": "32", ...}`."""
    values = leaves(document.model_dump(mode="json"))
    return {path: value if isinstance(value, str) else json.dumps(value) for path, value in values}


def leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """What there is in nested mappings that is none, by its dotted path."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from leaves(inner, f"{path}.{key}" if path else key)
    else:
        yield path, value
