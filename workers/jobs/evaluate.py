"""An evaluation job: what a checkpoint draws, beside the images that it learned from, and how consistent it is."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import structlog

from workers.contract.curves import curve_points
from workers.contract.data import DatasetManifest, Digest
from workers.contract.evaluation import FEWEST_IMAGES, EvaluateSpec
from workers.contract.keys import MANIFEST, RESULT, JobKeys, dataset_folder
from workers.contract.records import CheckpointManifest
from workers.contract.sampling import SettledSource
from workers.data import ImageSet
from workers.data.fetching import OnBytes
from workers.evaluation.errors import FeaturesError, StatisticsError
from workers.evaluation.features import open_features
from workers.jobs.bringing import bring_from_the_web
from workers.jobs.failures import SpecMismatchError
from workers.sampling.drawing import Brush, check_drawing
from workers.sampling.exam import Exam
from workers.sampling.network import SourceError, Trained, load_denoiser, settle_source, settled_source
from workers.sampling.pieces import let_go
from workers.sampling.shift import is_done, shift
from workers.sampling.verdict import conclude, read_statistics
from workers.storage import ObjectStore, Shelf, open_store
from workers.tracking.findings import add_to_run, evaluations_of
from workers.training.run import Ending, Run, Wishes
from workers.training.world import World

log = structlog.get_logger()


def prepare_evaluation(spec: EvaluateSpec, keys: JobKeys, store: ObjectStore, *, on_bytes: OnBytes) -> None:
    """Settle which checkpoint it is, and see that everything to measure it with is there.

    Raises:
        SpecMismatchError: it is not; the message names the field.
    """
    try:
        source = settle_source(store, keys, spec.checkpoint)
        trained = Trained.of(store, source.job_id)
        check_drawing(spec, trained)
        if not spec.reference:
            _check_reference(spec.classes, trained.images, store)
        if spec.held_out:
            _check_held_out(spec.held_out, trained, store)
        bring_from_the_web(spec, keys, store, on_bytes=on_bytes)
        shelf = Shelf(store, keys)
        extractor = open_features(spec.features, shelf=shelf)
        if spec.reference:
            read_statistics(spec.reference, dimensions=extractor.dimensions, shelf=shelf)
    except (SourceError, FeaturesError, StatisticsError) as error:
        raise SpecMismatchError(str(error)) from error
    log.info("source.settled", job_id=source.job_id, images_seen=source.images_seen, average=source.average)


def _check_reference(classes: Sequence[int] | None, images: DatasetManifest, store: ObjectStore) -> None:
    """That there are enough training images, of these classes.

    Raises:
        SourceError: there are not.
    """
    few, fewest = images.num_images, 2 * FEWEST_IMAGES
    if classes and images.labels:
        labels = np.frombuffer(store.get(dataset_folder(images.digest) + images.labels.name), dtype="<i4")
        few = int(np.isin(labels, classes).sum())
    if few < fewest:
        of_them = " of these classes" if classes else ""
        raise SourceError(
            f"reference: beside {few} training images{of_them} nothing can be measured; {fewest} are the fewest"
        )


def _check_held_out(digest: Digest, trained: Trained, store: ObjectStore) -> None:
    """That images are there, unseen, and such as the network takes.

    Raises:
        SourceError: they are not.
    """
    try:
        images = DatasetManifest.model_validate_json(store.get(dataset_folder(digest) + MANIFEST))
    except FileNotFoundError:
        raise SourceError(
            f"held_out: there is no image set {digest}; an import job says the digest of its own"
        ) from None
    seen = trained.images
    if digest == seen.digest:
        raise SourceError("held_out: these are the images that the job learned from; name others")
    if images.num_images < 2:
        raise SourceError("held_out: a spread takes two images or more")
    if (images.channels, images.resolution) != (seen.channels, seen.resolution):
        theirs, ours = (f"{each.resolution} pixels wide, of {each.channels} channels" for each in (images, seen))
        raise SourceError(f"held_out: its images are {theirs}, the network takes them {ours}; import them again")
    if trained.spec.network.class_conditional and images.classes != seen.classes:
        raise SourceError("held_out: the network goes by classes, and these images have others, or none")


def run_evaluation(
    run: Run, world: World, *, heard: Callable[[], Wishes], last_words: Callable[[str], object]
) -> Ending:
    """Draw and measure piece by piece; the first worker adds it up. Every process of `world` calls this."""
    store = open_store(run.store_url)
    spec = EvaluateSpec.model_validate_json(store.get(run.keys.spec))
    if is_done(run, world, store):
        return Ending(spec.total_images)
    source = settled_source(store, run.keys)
    trained = Trained.of(store, source.job_id)
    with shift(run, world, spec.compute, phase="evaluating", heard=heard, last_words=last_words) as workshop:
        denoiser, manifest = load_denoiser(store, source, trained, spec.compute, world.device)
        denoiser.register_forward_hook(lambda *_: workshop.beat())
        extractor = open_features(spec.features, device=world.device, shelf=Shelf(store, run.keys))
        extractor.each_pass(workshop.beat)
        cache = Path(run.cache_folder)
        exam = Exam(
            spec,
            run.keys,
            trained,
            Brush.of(spec, trained, denoiser, world.device),
            ImageSet.open(trained.images.digest, store=store, cache=cache),
            ImageSet.open(spec.held_out, store=store, cache=cache) if spec.held_out else None,
            extractor,
            store,
        )
        if not workshop.work_through(exam.pieces):
            return Ending(workshop.done, stopped=True, message=f"asked to stop; {workshop.done} images are kept")
        if world.is_first:
            with workshop.watchdog.paused():
                _conclude(run, exam, source, manifest)
    return Ending(spec.total_images)


def _conclude(run: Run, exam: Exam, source: SettledSource, manifest: CheckpointManifest) -> None:
    """What was found goes last: who sees it finds all the rest. Then the pieces have served."""
    evaluation, pictures = conclude(exam, source, manifest)
    store, document = exam.store, evaluation.model_dump_json(indent=2).encode()
    for name, picture in pictures.items():
        store.put(run.keys.results + name, picture)
    trained = JobKeys(source.job_id)
    store.put(trained.evaluation(manifest.images_seen, manifest.attempt, run.job_id), document)
    points = curve_points(evaluations_of(store, trained))[run.job_id]
    add_to_run(source.job_id, run.store_url, manifest.images_seen, points, evaluation.ended_at, pictures)
    store.put(run.keys.results + RESULT, document)
    let_go(store, run.keys, source)
    log.info("evaluation.done", **{name: round(measure.value, 6) for name, measure in evaluation.measures.items()})
