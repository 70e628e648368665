"""Which evaluations compare, and on which curves of their training they are."""

import json
import re
from collections.abc import Collection, Iterable, Sequence
from hashlib import sha256
from typing import Any

from workers.contract.evaluation import Evaluation
from workers.contract.merging import differences

EvaluationProtocol = dict[str, Any]  # in which something was measured: fields by name, as JSON has them

_HOW = ("features_fingerprint", "reference", "num_images", "repeats", "first_seed", "labels", "classes", "sampler")
_HOW_AT_SOME_IMAGES = ("drift_images", "weighting")
_DRAWN = ("num_images", "repeats")
_IN_EVERY_TABLE = ("average", "num_images", "classes")
LOWER_IS_BETTER = ("FD-", "FID", "KD-", "KID", "loss", "gap_")  # begin the names of measures
_AT_SOME_IMAGES, _AT_HELD_OUT = ("loss", "gap_"), "_at_held_out"
WHAT_IS_BEST = f"name a curve of evaluations, as eval/KD-ENL0-1k, of one of {', '.join(LOWER_IS_BETTER)}"
_EVALUATIONS = "eval"  # begins the names of curves that they are on
_ERROR = "_error"  # ends the name of a curve of standard errors
_LONGEST_VALUE, _LONGEST_PROTOCOL, _SHORT = 16, 120, 8  # MLflow takes names of 250 characters


def protocol_of(evaluation: Evaluation) -> EvaluationProtocol:
    """What its numbers depend on beside the training and the images seen."""
    return evaluation.model_dump(mode="json", include={*_HOW}) | {"average": evaluation.checkpoint.average}


def full_protocol(evaluation: Evaluation) -> EvaluationProtocol:
    """Beside that, what its losses and gaps depend on."""
    return protocol_of(evaluation) | evaluation.model_dump(mode="json", include={*_HOW_AT_SOME_IMAGES, "held_out"})


def protocol_of_measure(name: str, evaluation: Evaluation) -> EvaluationProtocol:
    """What this one depends on: a loss or a gap on the images, noise levels and weights that it is of, and on no drawn
    images."""
    protocol = protocol_of(evaluation)
    if name.startswith(_AT_SOME_IMAGES):
        protocol = {field: value for field, value in protocol.items() if field not in _DRAWN}
        protocol |= evaluation.model_dump(mode="json", include={*_HOW_AT_SOME_IMAGES})
        protocol["held_out"] = evaluation.held_out if name.endswith(_AT_HELD_OUT) else None
        protocol["levels"] = [level.sigma for level in evaluation.curves.get(name, ())]
    return protocol


def what_differs(evaluations: Sequence[Evaluation]) -> dict[str, list[str]]:
    """What not all of them have alike, as text: the values of each field by its dotted name, one for each evaluation.

    Beside their averages, drawn images and classes, which every table names.
    """
    known = [full_protocol(each) for each in evaluations]
    pairs = (differences(known[0], other) for other in known[1:])
    places = sorted({place for found in pairs for place, _, _ in found if place[0] not in _IN_EVERY_TABLE})
    return {".".join(place): [_short(_at(one, place)) for one in known] for place in places}


def _at(protocol: EvaluationProtocol, place: Sequence[str]) -> Any:
    """None where there is no such field."""
    value: Any = protocol
    for name in place:
        value = value.get(name) if isinstance(value, dict) else None
    return value


def is_alike(a: Evaluation, b: Evaluation) -> bool:
    """Whether their numbers compare; losses and gaps do only if `protocol_of_measure` is the same, too."""
    return protocol_of(a) == protocol_of(b)


def curve_points(evaluations: Iterable[Evaluation]) -> dict[str, dict[str, float]]:
    """The points of each evaluation of a training, by its id, at the images that its checkpoint has seen.

    A curve is of one way of measuring. What was measured of drawn images has their number in its name, as FID50k has:
    `eval/FD-ENL0-1k`. That is of the first evaluation of so many images, and of any other there is a curve whose name
    says in what it differs, as `eval-sampler.steps-9/FD-ENL0-1k`. `..._min` is the smallest of several repeats, and
    `..._error` the standard error.
    """
    first: dict[str, EvaluationProtocol] = {}
    found: dict[str, dict[str, float]] = {}
    for each in sorted(evaluations, key=lambda one: (one.ended_at, one.job_id)):
        points = found[each.job_id] = {}
        for measured, measure in each.measures.items():
            protocol, name = protocol_of_measure(measured, each), _name(measured, each)
            curve = f"{_section(first.setdefault(name, protocol), protocol)}/{name}"
            points[curve] = measure.value
            if measure.standard_error is not None:
                points[curve + _ERROR] = measure.standard_error
            if measure.lowest is not None:
                points[f"{curve}_min"] = measure.lowest
    return found


def _name(measured: str, evaluation: Evaluation) -> str:
    """Of a measure, with the number of images that were drawn for it."""
    if measured.startswith(_AT_SOME_IMAGES):
        return measured
    thousands, rest = divmod(evaluation.num_images, 1000)
    return f"{measured}-{evaluation.num_images if rest else f'{thousands}k'}"


def is_best_where_lowest(curve: str) -> bool:
    """Whether it is of evaluations, and the checkpoint where it is lowest is to be preferred."""
    section, _, name = curve.partition("/")
    is_of_evaluations = section == _EVALUATIONS or section.startswith(f"{_EVALUATIONS}-")
    return is_of_evaluations and name.startswith(LOWER_IS_BETTER) and not name.endswith(_ERROR)


def best_checkpoint(curve: str, evaluations: Iterable[Evaluation], *, among: Collection[int]) -> int | None:
    """Which of these checkpoints of a training, by images seen, has the lowest value; None if none has any.

    `evaluations` are all of the training; of several values at one checkpoint the last counts.
    """
    in_order = sorted(evaluations, key=lambda each: each.ended_at)
    points = curve_points(in_order)
    values = {
        each.checkpoint.images_seen: points[each.job_id][curve]
        for each in in_order
        if each.checkpoint.images_seen in among and curve in points[each.job_id]
    }
    return min(values, key=lambda images_seen: values[images_seen], default=None)


def _section(first: EvaluationProtocol, protocol: EvaluationProtocol) -> str:
    parts = [f"{'.'.join(place)}-{_short(value)}" for place, _, value in differences(first, protocol)]
    whole = "-".join(parts)
    return "-".join([_EVALUATIONS, *(parts if len(whole) <= _LONGEST_PROTOCOL else [_digest(whole)])])


def _short(value: Any) -> str:
    """In characters that MLflow takes; of a digest its beginning, of anything else that is long a digest."""
    text = value if isinstance(value, str) else re.sub(r"[^\w.-]+", "_", json.dumps(value)).strip("_")
    if len(text) <= _LONGEST_VALUE:
        return text
    return text[:_SHORT] if isinstance(value, str) else _digest(text)


def _digest(text: str) -> str:
    return sha256(text.encode()).hexdigest()[:_SHORT]
