"""The document of a fork: another job's with changes, and what they are."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from pydantic import ValidationError

from service.errors import InvalidRequest, StateConflict
from service.jobs.records import JobRecord
from service.jobs.views import Change, EvaluateEach, ForkCreate, JobCreate
from workers.contract.document import Problem, problems_of
from workers.contract.merging import differences, merged
from workers.contract.model import preconditioning_difference
from workers.contract.spec import TrainSpec, parse_spec

_FIXED = ("network", "ema")  # what a checkpoint consists of
_INHERITED = "so the parent's evaluations do not fit: give others, or null for none (`cdm fork --no-evaluations`)"


def read_spec(job: JobRecord) -> TrainSpec:
    """The document of a training.

    Raises:
        StateConflict: another release of the service has taken it, and this one cannot read all of it.
    """
    try:
        return TrainSpec.model_validate_json(job.spec)
    except ValidationError as error:
        fields = ", ".join(each.pointer for each in problems_of(error))
        raise StateConflict(
            f"{job.id} was submitted to another release of the service, with what this one cannot read: {fields}"
        ) from None


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
    problems += _term_problems(parent, spec, images_seen=images_seen)
    if spec.duration_images <= images_seen:
        reason = f"must be above {images_seen}, the images that the checkpoint has seen"
        problems.append(Problem("/overrides/duration_images", "out_of_range", reason))
    if problems:
        raise InvalidRequest("the fork cannot go on from this checkpoint", problems=problems)
    return spec


def _term_problems(parent: TrainSpec, fork: TrainSpec, *, images_seen: int) -> list[Problem]:
    """A longer run, whose inherited `start` switches off a term that the checkpoint has learned with."""
    before, after = parent.objective.consistency, fork.objective.consistency
    if not (before and after) or after.start != before.start:
        return []
    had_it = parent.consistency_images_at(images_seen - parent.batch_images)
    if not had_it or fork.consistency_images_at(images_seen):
        return []
    reason = (
        f"{after.start:g} of {fork.duration_images} images would switch the term off until image "
        f"{round(after.start * fork.duration_images)}, and the checkpoint has learned with it: "
        f"give {before.start * parent.duration_images / fork.duration_images:.3g} for where it began, or another"
    )
    return [Problem("/overrides/objective/consistency/start", "out_of_range", reason)]


def forked_request(request: ForkCreate, spec: TrainSpec, *, of: JobRecord) -> JobCreate:
    """The request for a job of this document, with the parent's evaluations unless it has its own.

    Raises:
        InvalidRequest: the evaluations do not fit the document.
    """
    inherited = EvaluateEach.model_validate_json(of.evaluations) if of.evaluations else None
    try:
        return JobCreate(
            name=request.name,
            spec=spec,
            labels=request.labels,
            priority=request.priority,
            max_runtime_seconds=request.max_runtime_seconds,
            evaluations=request.evaluations if _has_own_evaluations(request) else inherited,
        )
    except ValidationError as error:
        refused = InvalidRequest("the evaluations do not fit the fork", problems=problems_of(error))
        raise explained(refused, request) from None


def explained(refused: InvalidRequest, request: ForkCreate) -> InvalidRequest:
    """The refusal of a fork that also says how to leave out what it has inherited."""
    if _has_own_evaluations(request):
        return refused
    problems = [
        replace(each, message=f"{each.message}; {_INHERITED}") if each.pointer.startswith("/evaluations") else each
        for each in refused.problems
    ]
    return InvalidRequest(refused.detail, problems=problems)


def _has_own_evaluations(request: ForkCreate) -> bool:
    """Also if these are none."""
    return "evaluations" in request.model_fields_set


def what_there_is(job: JobRecord, checkpoints: Sequence[int]) -> str:
    """Why a checkpoint is not among those of a job, by their images seen."""
    if checkpoints:
        return f"its first is at {min(checkpoints)} images"
    if not job.state.is_terminal:
        return "it has none yet"
    return f"it has ended without any; `cdm submit --like {job.id}` begins anew with its document, and with changes"


def changes(before: TrainSpec, after: TrainSpec) -> tuple[Change, ...]:
    """Every field that differs, by its place."""
    found = differences(before.model_dump(mode="json"), after.model_dump(mode="json"))
    return tuple(Change(pointer=f"/{'/'.join(place)}", before=old, after=new) for place, old, new in found)
