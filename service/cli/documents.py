"""Job documents: from a preset or a file, with single fields changed, checked before anything is sent."""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from service.cli.errors import CommandFailed, CommandMisused
from service.cli.id_prefixes import DIGEST_DIGITS
from service.jobs.views import EvaluateEach
from workers.contract.document import problems_of
from workers.contract.jobs import AnySpec, job_schema, parse_job
from workers.contract.merging import UNION_FIELDS, merged
from workers.contract.presets import PRESETS
from workers.contract.reading import read_document

Document = dict[str, Any]
Whole = Callable[[str], str]  # makes a digest of its beginning

_EXAMPLES = {"--set": "--set compute.workers=1", "--evaluate": "--evaluate num_images=5000"}


def load(source: str, changes: Sequence[str] = (), *, whole: Whole = str) -> AnySpec:
    """The spec that `source`, a preset's name or a file, describes after `changes`, each `dotted.key=value`.

    Raises:
        CommandFailed: naming every wrong field at once.
    """
    return completed(read(source), changes, whole=whole)


def read(source: str) -> Document:
    """What `source`, a preset's name or a file, says, not checked yet; raises CommandFailed."""
    if source in PRESETS:
        return PRESETS[source].model_dump(mode="json")
    path = Path(source)
    try:
        document = read_document(path.read_bytes())
    except FileNotFoundError:
        names = ", ".join(PRESETS)
        raise CommandMisused(f"{source} is neither a file nor a preset: the presets are {names}") from None
    except OSError as error:
        raise CommandFailed(f"cannot read {source}: {error.strerror}") from None
    except ValueError as error:
        raise CommandFailed(f"{source}: {error}") from None
    if not isinstance(document, dict):
        raise CommandFailed(f"{source} holds no job document: it should be a mapping like those of `cdm presets`")
    _make_paths_absolute(document, path.absolute().parent)
    return _on_its_base(document)


def overrides(spec: AnySpec, changes: Sequence[str]) -> Document:
    """What `changes` make another of `spec`: the parts of the document that differ, whole.

    Raises:
        CommandFailed: naming every wrong field at once.
    """
    before = spec.model_dump(mode="json")
    changed = completed(spec.model_dump(mode="json"), changes)
    if changed.kind != spec.kind:
        raise CommandFailed(f"kind: a fork of a job of kind {spec.kind} is one, too; submit a new job instead")
    after = changed.model_dump(mode="json")
    return {name: value for name, value in after.items() if value != before[name]}


def completed(document: Document, changes: Sequence[str], *, whole: Whole = str) -> AnySpec:
    """The document after `changes`, with all its defaults, and digests of imported images that `whole` completes.

    Raises:
        CommandFailed: naming every wrong field at once.
    """
    for change in changes:
        _apply(document, change, option="--set")
    _make_paths_absolute(document, Path.cwd())
    _complete_digests(document, whole)
    with named():
        return parse_job(document)


def evaluations(fields: Document, changes: Sequence[str] = (), *, whole: Whole = str) -> EvaluateEach:
    """What is said of evaluations that follow a training: `fields` after `changes`, each `dotted.key=value`.

    Raises:
        CommandFailed: naming every wrong field at once.
    """
    document = dict(fields)
    for change in changes:
        _apply(document, change, option="--evaluate")
    _make_paths_absolute(document, Path.cwd())
    _complete_digests(document, whole)
    with named(under="/evaluations"):
        return EvaluateEach.model_validate(document)


@contextmanager
def named(*, under: str = "") -> Iterator[None]:
    """Every field that is wrong in one line. `under`: where this document lies in the request."""
    try:
        yield
    except ValidationError as error:
        problems = [str(replace(problem, pointer=under + problem.pointer)) for problem in problems_of(error)]
        count = "1 field is" if len(problems) == 1 else f"{len(problems)} fields are"
        raise CommandFailed(f"{count} wrong: {'; '.join(problems)}") from None


def _complete_digests(document: Document, whole: Whole) -> None:
    dataset = document.get("dataset")
    imported = dataset if isinstance(dataset, dict) and dataset.get("kind") == "imported" else {}
    for place, key in ((imported, "digest"), (document, "held_out")):
        if isinstance(given := place.get(key), str) and len(given) < DIGEST_DIGITS:
            place[key] = whole(given)


def _on_its_base(document: Document) -> Document:
    if "preset" not in document:
        return document
    name = document.pop("preset")
    if name not in PRESETS:
        raise CommandFailed(f"there is no preset {name!r}: there are {', '.join(PRESETS)}")
    return merged(PRESETS[name].model_dump(mode="json"), document)


def _apply(document: Document, change: str, *, option: str) -> None:
    key, sign, text = change.partition("=")
    *parents, last = key.strip().split(".")
    if not sign or not all((*parents, last)):
        raise CommandMisused(f"{option} {change}: write it as key=value, for example {_EXAMPLES[option]}")
    place = document
    for parent in parents:
        if place.get(parent) is None:
            place[parent] = {}
        place = place[parent]
        if not isinstance(place, dict):
            raise CommandMisused(f"{option} {change}: {parent} is a single value and has no fields")
    try:
        value = read_document(text)
    except ValueError:
        raise CommandMisused(
            f"{option} {change}: the value is not YAML; quote it, for example {key}={json.dumps(text)}"
        ) from None
    if last in UNION_FIELDS and place.get(last) not in (None, value):
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
    for schema in job_schema()["$defs"].values():
        fields: Document = schema.get("properties", {})
        if fields.get(tag, {}).get("const") == value:
            return fields
    return {}


def files_in(document: Document) -> Iterator[tuple[Document, str, str]]:
    """Where a document, or a part of one, names a file beside its data set: the mapping, the key in it, the field."""
    fields = ("initial_weights", "weights", "reference", "inpainting.image", "inpainting.mask", "features.weights")
    for field in fields:
        parent, _, key = field.rpartition(".")
        place = document.get(parent) if parent else document
        if isinstance(place, dict) and isinstance(place.get(key), str):
            yield place, key, field


def is_here(path: Path) -> bool:
    """Whether there is anything that this user may know of; workers may have what this machine has not."""
    try:
        return path.exists()
    except OSError:  # no permission; too long
        return False


def _make_paths_absolute(document: Document, folder: Path) -> None:
    """Raises CommandFailed for a file that is named by where it is from here, and is not."""
    for place, key, field in files_in(document):
        if "://" in (given := place[key]):
            continue
        place[key] = str(path := folder / Path(given).expanduser())
        if not Path(given).is_absolute() and not is_here(path):
            mend = "give one that is, or the whole path of what the workers have"
            raise CommandFailed(f"{field}: there is no file {path}; {mend}")
    dataset = document.get("dataset")
    if isinstance(dataset, dict) and isinstance(given := dataset.get("path"), str) and "://" not in given:
        dataset["path"] = str(folder / Path(given).expanduser())
