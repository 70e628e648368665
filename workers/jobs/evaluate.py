"""An evaluation job: what a network draws, beside the images that it learned from, and how consistent it is."""

from collections.abc import Sequence
from pathlib import Path
from typing import assert_never

import numpy as np
import structlog

from workers.contract.curves import curve_points
from workers.contract.data import DatasetManifest, Digest
from workers.contract.document import SpecError
from workers.contract.evaluation import FEWEST_IMAGES, EvaluateSpec, Evaluation, WeightsEvaluation, held_out_problem
from workers.contract.keys import RESULT, JobKeys, dataset_folder
from workers.contract.sampling import ResolvedCheckpoint, ResolvedSource, WeightsFile
from workers.contract.tracking import check_curve_name
from workers.data import ImageSet
from workers.data.fetching import OnBytes
from workers.data.images import read_dataset_manifest
from workers.evaluation.features import open_features
from workers.jobs.drawing import prepare_source
from workers.sampling.drawing import SeededSampler
from workers.sampling.evaluation_plan import EvaluationPlan
from workers.sampling.evaluation_results import conclude, read_statistics
from workers.sampling.pieces import PieceRunner, let_go
from workers.sampling.source import Source, load_source, open_source, resolved_source
from workers.storage import JobFiles, ObjectStore
from workers.tracking.findings import add_to_run, evaluations_of
from workers.training.run import Ending, Run

log = structlog.get_logger()


def prepare_evaluation(spec: EvaluateSpec, keys: JobKeys, store: ObjectStore, *, on_bytes: OnBytes) -> None:
    """Resolve which network it is, and see that everything to measure it with is there.

    Raises:
        SpecError: it is not; the message names the field.
    """
    source = prepare_source(spec, keys, store, dataset=spec.dataset, on_bytes=on_bytes)
    _check_images(spec, source, store)
    job_files = JobFiles(store, keys)
    extractor = open_features(spec.features, job_files=job_files)
    if spec.reference:
        read_statistics(spec.reference, dimensions=extractor.dimensions, job_files=job_files)


def _check_images(spec: EvaluateSpec, source: Source, store: ObjectStore) -> None:
    """Raises SpecError: there are too few to measure beside, or the held-out ones do not suit."""
    if source.images is None:
        return
    if not spec.reference:
        _check_reference(spec.classes, source.images, store)
    if spec.held_out:
        _check_held_out(spec.held_out, source.images, store, by_classes=bool(source.subject.num_classes))


def _check_reference(classes: Sequence[int] | None, images: DatasetManifest, store: ObjectStore) -> None:
    """That there are enough training images, of these classes.

    Raises:
        SpecError: there are not.
    """
    num_images, fewest = images.num_images, 2 * FEWEST_IMAGES
    if classes and images.labels:
        labels = np.frombuffer(store.get(dataset_folder(images.digest) + images.labels.name), dtype="<i4")
        num_images = int(np.isin(labels, classes).sum())
    if num_images < fewest:
        of_them = " of these classes" if classes else ""
        reason = f"beside {num_images} training images{of_them} nothing can be measured; {fewest} are the fewest"
        raise SpecError(reason, field="reference")


def _check_held_out(digest: Digest, seen: DatasetManifest, store: ObjectStore, *, by_classes: bool) -> None:
    """That images are there, unseen, and such as the network takes.

    Raises:
        SpecError: they are not.
    """
    try:
        images = read_dataset_manifest(store, digest)
    except FileNotFoundError:
        mend = "an import job says the digest of its own"
        raise SpecError(f"there is no image set {digest}; {mend}", field="held_out") from None
    if reason := held_out_problem(images, seen, by_classes=by_classes):
        raise SpecError(reason, field="held_out")


def run_evaluation(run: Run, spec: EvaluateSpec, runner: PieceRunner) -> Ending:
    """Draw and measure piece by piece; the first worker adds it up. Every process calls this."""
    store, device, cache = runner.store, runner.world.device, Path(run.cache_folder)
    source = open_source(store, run.keys, resolved_source(store, run.keys), dataset=spec.dataset)
    denoiser, seal = load_source(source, spec.compute, device)
    denoiser.register_forward_hook(lambda *_: runner.watchdog.beat())  # a piece may take longer than a watchdog waits
    extractor = open_features(spec.features, device=device, job_files=JobFiles(store, run.keys))
    extractor.each_pass(runner.watchdog.beat)
    plan = EvaluationPlan(
        spec,
        run.keys,
        SeededSampler.of(spec, source, denoiser, device),
        ImageSet.open(source.images.digest, store=store, cache=cache) if source.images else None,
        ImageSet.open(spec.held_out, store=store, cache=cache) if spec.held_out else None,
        extractor,
        store,
    )
    if not runner.work_through(plan.pieces):
        return Ending(runner.done, stopped=True, message=f"asked to stop; {runner.done} images are kept")
    if runner.world.is_first:
        with runner.watchdog.paused():
            _conclude(run, plan, source.resolved, seal)
    return Ending(spec.total_images)


def _conclude(run: Run, plan: EvaluationPlan, source: ResolvedSource, seal: str | None) -> None:
    """What was found goes last: who sees it finds all the rest. Then the pieces have served."""
    findings, pictures = conclude(plan)
    for name in findings.measures:  # before anything is kept: curves of this name would never reach MLflow
        check_curve_name(name)
    store = plan.store
    fields = dict(findings)
    for name, picture in pictures.items():
        store.put(run.keys.results + name, picture)
    match source:
        case ResolvedCheckpoint() as at:
            evaluation = Evaluation(**fields, checkpoint=at, checkpoint_seal=seal)
            document = _document(evaluation)
            trained = JobKeys(at.job_id)
            store.put(trained.evaluation(at.images_seen, at.attempt, run.job_id), document)
            points = curve_points(evaluations_of(store, trained))[run.job_id]
            add_to_run(at.job_id, run.store_url, at.images_seen, points, evaluation.ended_at, pictures)
        case WeightsFile() as file:
            document = _document(WeightsEvaluation(**fields, weights=file))
        case _:
            assert_never(source)
    store.put(run.keys.results + RESULT, document)
    let_go(store, run.keys, source)
    log.info("evaluation.done", **{name: round(measure.value, 6) for name, measure in findings.measures.items()})


def _document(evaluation: Evaluation | WeightsEvaluation) -> bytes:
    return evaluation.model_dump_json(indent=2).encode()
