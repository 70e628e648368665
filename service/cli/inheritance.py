"""What a new job takes over from an earlier one beside its document: evaluations and labels, with changes."""

from collections.abc import Iterator, Sequence
from typing import Any

from pydantic import ValidationError

from service.cli import documents, values
from service.cli.errors import CommandFailed, CommandMisused
from service.cli.hints import command
from service.client.documents import as_json
from service.client.jobs import JobOptions
from service.jobs.views import AT_IMAGES, COMPARES, CONTROL_OF, OF_JOB, EvaluateEach, Job, JobCreate
from workers.contract.document import problems_of
from workers.contract.jobs import AnySpec

STUDY_REQUEST = "study.request"  # label: the digest of what `cdm study` asked for
_OF_THAT_JOB = {OF_JOB, AT_IMAGES, CONTROL_OF, COMPARES, STUDY_REQUEST}  # labels by which others find it, and no other


def evaluations(
    before: EvaluateEach | None, every: int | None, changes: Sequence[str], *, without: bool, whole: documents.Whole
) -> EvaluateEach | None:
    """Those of `before` with what `--evaluate-every` and `--evaluate` say of them; None: none.

    Raises:
        CommandFailed: naming every wrong field at once.
    """
    if every is None and not changes:
        return None if without else before
    if without:
        raise CommandMisused("--no-evaluations: there are none, so leave out --evaluate-every and --evaluate")
    fields: dict[str, Any] = as_json(before) if before else {}
    return documents.evaluations(fields if every is None else fields | {"every_images": every}, changes, whole=whole)


def labels(before: Job, changes: Sequence[str]) -> dict[str, str]:
    """Those that people gave it, after `key=value` and `key-` each."""
    kept = {key: value for key, value in before.labels.items() if key not in _OF_THAT_JOB}
    return values.changed_labels(kept, changes)


def require_fitting(spec: AnySpec, options: JobOptions, *, before: Job) -> None:
    """See that what is taken over goes with the changed document.

    Raises:
        CommandFailed: saying what does not, and how to leave it out.
    """
    try:
        JobCreate.model_validate({"spec": spec, "evaluations": options.get("evaluations")})
    except ValidationError as error:
        wrong = "; ".join(map(str, problems_of(error)))
        mend = "change them with --evaluate, or leave them out with --no-evaluations"
        raise CommandFailed(f"the evaluations of {before.id} do not fit: {wrong}; {mend}") from None


def left_behind(before: Job, options: JobOptions) -> Iterator[str]:
    """What of it is not taken over, in words."""
    if before.spec.kind == "train" and before.parent:
        fork = command(f"fork {before.parent.job_id} --at {before.parent.images_seen}")
        yield f"this begins anew; {before.id} went on from a checkpoint, as {fork} does"
    if before.control_job_id and "control" not in options:
        yield f"this has no control; {before.id} has one, as --control edm makes it"
