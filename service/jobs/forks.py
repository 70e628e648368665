"""The document of a fork: another job's with changes, and what they are."""

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from service.errors import InvalidRequest
from service.jobs.views import Change
from service.metrics.downsampling import Point
from workers.contract.document import Problem, problems_of
from workers.contract.merging import differences, merged
from workers.contract.model import preconditioning_difference
from workers.contract.spec import TrainSpec, parse_spec

_FIXED = ("network", "ema")  # what a checkpoint consists of


def forked_spec(parent: TrainSpec, overrides: Mapping[str, Any], *, images_seen: int) -> TrainSpec:
    """The parent's document with the overrides.

    Raises:
        InvalidRequest: naming every field that is wrong, or that cannot go on from the parent's checkpoint.
    """
    try:
        spec = parse_spec(merged(parent.model_dump(mode="json"), overrides))
    except ValidationError as error:
        problems = [Problem(f"/overrides{each.pointer}", each.code, each.message) for each in problems_of(error)]
        raise InvalidRequest("the overrides make no valid document", problems=problems) from None
    problems = [
        Problem(f"/overrides/{name}", "fixed", "a checkpoint can only go on with the same; submit a new job instead")
        for name in _FIXED
        if getattr(spec, name) != getattr(parent, name)
    ]
    if found := preconditioning_difference(parent.preconditioning, spec.preconditioning):
        field, made, _ = found
        reason = f"must stay {made}: the weights of the checkpoint mean something else otherwise"
        problems.append(Problem(f"/overrides/preconditioning/{field}", "fixed", reason))
    if spec.duration_images <= images_seen:
        reason = f"must be above {images_seen}, the images that the checkpoint has seen"
        problems.append(Problem("/overrides/duration_images", "out_of_range", reason))
    if problems:
        raise InvalidRequest("the fork cannot go on from this checkpoint", problems=problems)
    return spec


def lowest(checkpoints: Sequence[int], curve: Sequence[Point]) -> int | None:
    """The checkpoint, by its images seen, at which the curve was lowest; None if it has no number at any of them."""
    values: dict[int, float] = {}
    for images_seen in checkpoints:
        until = [one.value for one in curve if one.images_seen <= images_seen and one.value is not None]
        if until:
            values[images_seen] = until[-1]
    return min(values, key=lambda images_seen: values[images_seen], default=None)


def changes(before: TrainSpec, after: TrainSpec) -> tuple[Change, ...]:
    """Every field that differs, by its place."""
    found = differences(before.model_dump(mode="json"), after.model_dump(mode="json"))
    return tuple(Change(pointer=f"/{'/'.join(place)}", before=old, after=new) for place, old, new in found)
