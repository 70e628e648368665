"""A comparison job: a training beside its control, as a page."""

from collections.abc import Sequence, Set
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import structlog

from workers.contract.comparing import CompareSpec, Comparison
from workers.contract.curves import LOWER_IS_BETTER, EvaluationProtocol, full_protocol, is_alike
from workers.contract.document import SpecError, in_field
from workers.contract.evaluation import Evaluation
from workers.contract.keys import GRID, RESULT, JobKeys
from workers.contract.merging import differences
from workers.contract.spec import TrainSpec
from workers.evaluation.comparison import Training, conclusions, metric_curves, pairs, shared
from workers.evaluation.comparison_report import Pictures, draw_metric_curves, report_html
from workers.jobs.attempt import known_of
from workers.sampling.evaluation_results import DRIFT, TIMELINE
from workers.sampling.network import Trained
from workers.sampling.pieces import PieceRunner
from workers.storage import ObjectStore
from workers.tracking.findings import evaluations_of
from workers.tracking.journal import recorded_rows
from workers.training.history import UNKNOWN_CODE, codes_of, devices_of
from workers.training.run import Ending, Run
from workers.training.start import read_origin

log = structlog.get_logger()

REPORT, PLOT = "report.html", "report.png"
# A pair may differ in these: they decide neither which images and noise it sees, nor the arithmetic, but for three.
_MAY_DIFFER = ("objective.consistency", "compute.", "cadence.")
_ARITHMETIC = ("compute.precision", "compute.tf32", "compute.compile")


def run_compare(run: Run, spec: CompareSpec, runner: PieceRunner) -> Ending:
    """Compare, and write it down.

    Raises:
        SpecError: one of them has not begun, or there are no evaluations that compare.
    """
    store = runner.store
    with in_field("job_id"):
        job = Trained.of(store, spec.job_id)
    with in_field("control_job_id"):
        control = Trained.of(store, spec.control_job_id)
    _conclude(run, store, _training(store, job), _training(store, control), _differences(job.spec, control.spec))
    return Ending(0)


def _training(store: ObjectStore, trained: Trained) -> Training:
    keys, compute = JobKeys(trained.job_id), trained.spec.compute
    rows, origin = recorded_rows(store, keys, after=-1), read_origin(store, keys)
    devices = devices_of(store, keys) if compute.accelerator == "gpu" else frozenset({"CPU"})  # of any model
    name, _ = known_of(store, keys)
    evaluations, codes = evaluations_of(store, keys), codes_of(store, keys)
    return Training(trained.job_id, compute.workers, rows, evaluations, origin, devices, codes, name)


def _conclude(
    run: Run, store: ObjectStore, job: Training, control: Training, differences: dict[str, tuple[Any, Any]]
) -> None:
    if not job.evaluations:
        raise SpecError(f"{job.job_id} has not been evaluated; `cdm evaluate` does it", field="job_id")
    alike = [each for each in job.evaluations if any(is_alike(each, other) for other in control.evaluations)]
    last = max(alike or job.evaluations, key=lambda each: (each.checkpoint.images_seen, each.ended_at))
    ours, theirs = metric_curves(job, last), metric_curves(control, last)
    found = tuple(pairs(ours, theirs))
    if not found:
        reason = f"{control.job_id} has not been evaluated at the same images seen and in the same way"
        raise SpecError(reason, field="control_job_id")
    devices, codes = job.devices | control.devices, job.codes | control.codes
    comparison = Comparison(
        job=job.side,
        control=control.side,
        differences=differences,
        is_paired=job.origin == control.origin
        and len(devices) <= 1
        and len(codes) <= 1
        and all(name.startswith(_MAY_DIFFER) and name not in _ARITHMETIC for name in differences),
        devices=tuple(sorted(devices)),
        codes=tuple(sorted(codes)),
        protocol=_common_protocol(last, control.evaluations),
        pairs=found,
        conclusions=(
            *_about_code("They were trained", codes),
            *_about_code("Their evaluations were made", _evaluated_by(job, last) | _evaluated_by(control, last)),
            *conclusions(job.side, control.side, found),
        ),
        files=(REPORT, PLOT),
        ended_at=datetime.now(UTC),
    )
    shown = [name for name in shared(ours, theirs) if name.startswith(LOWER_IS_BETTER)]
    plot = draw_metric_curves(ours, theirs, shown)
    page = report_html(comparison, plot, _pictures(store, job, control, last))
    store.put(run.keys.results + PLOT, plot)
    store.put(run.keys.results + REPORT, page.encode())
    store.put(run.keys.results + RESULT, comparison.model_dump_json(indent=2).encode())
    log.info("comparison.done", pairs=len(found))


def _about_code(what: str, codes: Set[str]) -> list[str]:
    if len(codes) <= 1:
        return []
    return [f"{what} by different code ({', '.join(sorted(codes))}): a difference may be due to that."]


def _evaluated_by(training: Training, like: Evaluation) -> frozenset[str]:
    return frozenset(each.versions.get("code", UNKNOWN_CODE) for each in training.evaluations if is_alike(each, like))


def _differences(job: TrainSpec, control: TrainSpec) -> dict[str, tuple[Any, Any]]:
    found = differences(control.model_dump(mode="json"), job.model_dump(mode="json"))
    return {".".join(place): (theirs, ours) for place, theirs, ours in found}


def _common_protocol(last: Evaluation, others: Sequence[Evaluation]) -> EvaluationProtocol:
    """How the last evaluation was made, as far as the control's like it was made so, too."""
    other = max((each for each in others if is_alike(each, last)), key=lambda each: each.ended_at, default=last)
    ours, theirs = (
        {"features": each.features, **full_protocol(each), "num_reference": each.num_reference}
        for each in (last, other)
    )
    return {name: value for name, value in ours.items() if theirs[name] == value}


def _pictures(store: ObjectStore, job: Training, control: Training, last: Evaluation) -> Pictures:
    """Those of the last checkpoint that both were evaluated at."""
    found: dict[str, bytes] = {}
    for name, what in ((GRID, "drawn"), (TIMELINE, "the same latents with few steps and more"), (DRIFT, "consistency")):
        for training in (job, control):
            for each in training.evaluations:
                if each.checkpoint.images_seen == last.checkpoint.images_seen and is_alike(each, last):
                    with suppress(FileNotFoundError):  # its job may have been purged
                        caption = f"{training.side.title} at {each.checkpoint.images_seen:,} images: {what}"
                        found[caption] = store.get(JobKeys(each.job_id).results + name)
    return found
