"""Job documents: from a preset or a file, with single fields changed, checked before anything is sent."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from service.cli.errors import CommandFailed
from workers.contract.document import problems_of
from workers.contract.presets import PRESETS
from workers.contract.reading import read_document
from workers.contract.spec import TrainSpec, parse_spec

Document = dict[str, Any]
_TAGS = ("kind", "estimator")  # say which member of a union a mapping is


def load(source: str, changes: Sequence[str] = ()) -> TrainSpec:
    """The spec that `source`, a preset's name or a file, describes after `changes`, each `dotted.key=value`.

    Raises:
        CommandFailed: naming every wrong field at once.
    """
    document = _read(source)
    for change in changes:
        _apply(document, change)
    _make_paths_absolute(document, Path.cwd())
    try:
        return parse_spec(document)
    except ValidationError as error:
        problems = [str(problem) for problem in problems_of(error)]
        count = "1 field is" if len(problems) == 1 else f"{len(problems)} fields are"
        raise CommandFailed(f"{count} wrong: {'; '.join(problems)}") from None


def _read(source: str) -> Document:
    if source in PRESETS:
        return PRESETS[source].model_dump(mode="json")
    path = Path(source)
    try:
        document = read_document(path.read_bytes())
    except FileNotFoundError:
        names = ", ".join(PRESETS)
        raise CommandFailed(f"{source} is neither a file nor a preset: the presets are {names}") from None
    except OSError as error:
        raise CommandFailed(f"cannot read {source}: {error.strerror}") from None
    except ValueError as error:
        raise CommandFailed(f"{source}: {error}") from None
    if not isinstance(document, dict):
        raise CommandFailed(f"{source} holds no job document: it should be a mapping like those of `cdm presets`")
    _make_paths_absolute(document, path.absolute().parent)
    return _on_its_base(document)


def _on_its_base(document: Document) -> Document:
    if "preset" not in document:
        return document
    name = document.pop("preset")
    if name not in PRESETS:
        raise CommandFailed(f"there is no preset {name!r}: there are {', '.join(PRESETS)}")
    return merged(PRESETS[name].model_dump(mode="json"), document)


def merged(base: Document, changes: Mapping[str, Any]) -> Document:
    """`base` with what `changes` says. Mappings are merged, but one of another kind has other fields and replaces."""
    result = dict(base)
    for name, value in changes.items():
        old = result.get(name)
        if isinstance(old, dict) and isinstance(value, dict) and _kind(value) in (None, _kind(old)):
            result[name] = merged(old, value)
        else:
            result[name] = value
    return result


def _kind(document: Mapping[str, Any]) -> Any:
    """Which member of a union it is; None if it does not say."""
    return next((document[tag] for tag in _TAGS if tag in document), None)


def _apply(document: Document, change: str) -> None:
    key, sign, text = change.partition("=")
    *parents, last = key.strip().split(".")
    if not sign or not all((*parents, last)):
        raise CommandFailed(f"--set {change}: write it as key=value, for example --set compute.workers=1")
    place = document
    for parent in parents:
        if place.get(parent) is None:
            place[parent] = {}
        place = place[parent]
        if not isinstance(place, dict):
            raise CommandFailed(f"--set {change}: {parent} is a single value and has no fields")
    try:
        value = read_document(text)
    except ValueError:
        raise CommandFailed(
            f"--set {change}: the value is not YAML; quote it, for example {key}={json.dumps(text)}"
        ) from None
    if last in _TAGS and place.get(last) not in (None, value):
        _switch(place, last, value)
    place[last] = value


def _switch(place: Document, tag: str, value: Any) -> None:
    """Make one member of a union another: what was chosen stays if the new one has it, defaults give way to its own."""
    old, new = _fields_of(tag, place[tag]), _fields_of(tag, value)
    for name in [name for name in place if name != tag]:
        if name not in new or place[name] == old.get(name, {}).get("default"):
            del place[name]


def _fields_of(tag: str, value: Any) -> Document:
    """The fields of the member of a union that says `value` there, by JSON schema; none if there is no such member."""
    for schema in TrainSpec.model_json_schema()["$defs"].values():
        fields: Document = schema.get("properties", {})
        if fields.get(tag, {}).get("const") == value:
            return fields
    return {}


def _make_paths_absolute(document: Document, folder: Path) -> None:
    for place, key in ((document.get("dataset"), "path"), (document, "initial_weights")):
        if isinstance(place, dict) and isinstance(path := place.get(key), str) and "://" not in path:
            place[key] = str(folder / Path(path).expanduser())
