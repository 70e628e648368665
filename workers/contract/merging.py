"""One document changed by a part of another, and in what two differ."""

from collections.abc import Iterator, Mapping
from typing import Any

UNION_FIELDS = ("kind", "estimator")  # say which member of a union a mapping is


def merged(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """`base` with what `changes` says. Mappings are merged, but one of another kind has other fields and replaces."""
    result = dict(base)
    for name, value in changes.items():
        old = result.get(name)
        if isinstance(old, dict) and isinstance(value, Mapping) and _kind(value) in (None, _kind(old)):
            result[name] = merged(old, value)
        else:
            result[name] = value
    return result


def _kind(document: Mapping[str, Any]) -> Any:
    """Which member of a union it is; None if it does not say."""
    return next((document[tag] for tag in UNION_FIELDS if tag in document), None)


def differences(before: Any, after: Any, place: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any, Any]]:
    """Every field in which two documents differ, by its place; where one has no such field, None."""
    if isinstance(before, dict) and isinstance(after, dict):
        for name in sorted({*before, *after}):
            yield from differences(before.get(name), after.get(name), (*place, name))
    elif before != after:
        yield place, before, after
