"""Documents of a service of another release: what this one does not know of them is put up with, but never lost."""

from collections.abc import Iterator, Sequence
from typing import Any, TypeVar

from pydantic import BaseModel

from service.client.errors import ClientError

Model = TypeVar("Model", bound=BaseModel)


def understood(model: type[Model], content: str | bytes) -> Model:
    """What the service says; fields that are new lie in `model_extra` of where they are.

    Raises:
        ValidationError: it is no such document, or says of a field what this release does not know.
    """
    return model.model_validate_json(content, extra="allow")


def as_json(document: BaseModel, *, exclude_unset: bool = False) -> dict[str, Any]:
    """The document, to be sent.

    Raises:
        ClientError: it came from the service, with fields that this release would lose.
    """
    if unknown := ", ".join(_unknown(document)):
        raise ClientError(
            f"this release of cdm-train does not know {unknown}, which would be lost: install that of the service"
        )
    return document.model_dump(mode="json", exclude_unset=exclude_unset)


def _unknown(value: Any, path: str = "") -> Iterator[str]:
    if isinstance(value, BaseModel):
        yield from (path + name for name in value.model_extra or ())
        for name in type(value).model_fields:
            yield from _unknown(getattr(value, name), f"{path}{name}.")
    elif isinstance(value, Sequence) and not isinstance(value, str | bytes):
        for index, each in enumerate(value):
            yield from _unknown(each, f"{path}{index}.")
