"""What people write on a command line for labels and durations."""

import re
from collections.abc import Mapping, Sequence

from service.cli.errors import CommandMisused
from service.client.jobs import JobOptions
from service.jobs.views import Priority

_UNITS = {"d": 86400, "h": 3600, "m": 60, "s": 1}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)([dhms])")


def seconds(text: str) -> float:
    """Of `2h30m`, `90s` or `1.5d`. A bare number is refused: nobody knows of what."""
    parts = _DURATION.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise CommandMisused(f"{text!r} is no duration: write it with units, for example 2h30m, 90s or 1d")
    return sum(float(number) * _UNITS[unit] for number, unit in parts)


def labels(pairs: Sequence[str]) -> dict[str, str]:
    """Of `key=value` each."""
    found = {}
    for pair in pairs:
        key, sign, value = pair.partition("=")
        if not key or not sign:
            raise CommandMisused(f"--label {pair}: write it as key=value, for example --label team=vision")
        found[key] = value
    return found


def changed_labels(before: Mapping[str, str], changes: Sequence[str]) -> dict[str, str]:
    """`key=value` sets a label, `key-` takes it away."""
    after = dict(before)
    for change in changes:
        key, sign, value = change.partition("=")
        if sign and key:
            after[key] = value
        elif change.endswith("-") and len(change) > 1:
            after.pop(change[:-1], None)
        else:
            raise CommandMisused(f"{change}: write key=value to set a label, or key- to take it away")
    return after


def job_options(
    name: str | None, label: Sequence[str], priority: Priority | None, max_runtime: str | None
) -> JobOptions:
    """What is given of these, as the SDK takes it."""
    options = JobOptions(name=name)
    if label:
        options["labels"] = labels(label)
    if priority:
        options["priority"] = priority
    if max_runtime is not None:
        options["max_runtime_seconds"] = seconds(max_runtime)
    return options
