"""What a field that pydantic refuses had better be: it says only what is wrong with it."""

from collections import defaultdict
from collections.abc import Iterator
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel

from workers.contract.merging import UNION_FIELDS
from workers.contract.spelling import closest, did_you_mean

_USUAL_NAMES = {"lr": "learning_rate", "lambda": "weight", "gpus": "workers"}  # elsewhere, of fields unlike these
_LARGEST = 2**63  # that is written out

# A refusal says where it is, but not of which class. By field, by tag of a union, and by name of the class itself:
_DOCUMENTS = defaultdict[str, list[type[BaseModel]]](list)


def remember(document: type[BaseModel]) -> None:
    """Have refusals of this class, and of what it holds, say what would be right."""
    for place in (document.__name__, *tags_of(document)):
        _DOCUMENTS[place].append(document)
    for name, field in document.model_fields.items():
        _DOCUMENTS[name] += _documents_in(field.annotation)


def tags_of(document: type[BaseModel]) -> dict[str, str]:
    """What says in a union that this one is meant, and the field that says it."""
    fields = {name: document.model_fields[name].annotation for name in UNION_FIELDS if name in document.model_fields}
    return {tag: name for name, kind in fields.items() if get_origin(kind) is Literal for tag in get_args(kind)}


def mend_of(detail: Any, *, title: str) -> str:
    """In words, for people. `title`: the class that was read, where the refusal does not lie inside another."""
    match detail["type"]:
        case "extra_forbidden":
            *parents, written = detail["loc"]
            return _of_unknown(str(written), _documents_at(parents, title))
        case "missing":
            return "this field is required"
        case "union_tag_not_found":
            return f"say which {detail['ctx']['discriminator']} it is"
        case "union_tag_invalid":
            tags = [tag.strip("'") for tag in detail["ctx"]["expected_tags"].split(", ")]
            return f"must be one of {', '.join(tags)}{did_you_mean(detail['ctx']['tag'], tags)}"
        case "dict_type" | "model_type" | "model_attributes_type":
            return _of_no_object(detail["input"], _documents_at(detail["loc"], title))
        case "int_type" | "int_from_float":
            return _of_no_integer(detail["input"])
        case _:
            return str(detail["msg"]).removeprefix("Value error, ")


def _of_unknown(written: str, documents: list[type[BaseModel]]) -> str:
    known = {name for document in documents for name in document.model_fields}
    meant = usual if (usual := _USUAL_NAMES.get(written)) in known else closest(written, sorted(known))
    return f"unknown field; {f'did you mean {meant}?' if meant else 'remove it or check its spelling'}"


def _of_no_object(given: Any, documents: list[type[BaseModel]]) -> str:
    tags = {tag: name for document in documents for tag, name in tags_of(document).items()}
    if not tags:
        return "must be an object"
    if isinstance(given, str) and given in tags:
        return f'must be an object: {{"{tags[given]}": "{given}"}}'
    return f"must be an object that says its {' or '.join({*tags.values()})}, one of {', '.join(tags)}"


def _of_no_integer(given: Any) -> str:
    if isinstance(given, float) and given.is_integer() and abs(given) < _LARGEST:
        return f"must be a whole number: write it as {int(given)}"
    return "must be a whole number"


def _documents_at(location: Any, title: str) -> list[type[BaseModel]]:
    """What may stand there."""
    place = next((part for part in reversed(location) if isinstance(part, str)), title)
    return _DOCUMENTS.get(place, [])


def _documents_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in get_args(annotation):
        yield from _documents_in(inner)
