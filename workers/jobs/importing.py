"""An import job: somebody's images become an image set of the store, with a report and a preview."""

import time
from collections.abc import Callable
from datetime import UTC, datetime

import numpy as np
import structlog

from workers.contract.data import DatasetManifest
from workers.contract.importing import ImportReport, ImportSpec
from workers.contract.keys import PREVIEW, RESULT
from workers.data import Imported, import_images
from workers.data.images import stored_images, stored_labels
from workers.jobs.failures import LeftEarlyError
from workers.pictures import grid_png
from workers.sampling.pieces import PieceRunner
from workers.storage import ObjectStore
from workers.training.run import Ending, Run

log = structlog.get_logger()

_PREVIEW_IMAGES, _PREVIEW_COLUMNS = 64, 8
_NAMED = 1000
_LOOK_EVERY_SECONDS = 2.0


def run_import(run: Run, spec: ImportSpec, runner: PieceRunner) -> Ending:
    """Import, and say what has come of it; one process does it, which is all there are.

    Raises:
        DatasetError: the images cannot be used; nothing has been written.
    """
    step = _steps_of(runner)
    try:
        imported = import_images(
            spec.dataset,
            runner.store,
            max_faulty_images=spec.max_faulty_images,
            on_progress=step,
            on_bytes=lambda _done, _total: step(0, 0),
        )
    except LeftEarlyError:
        return Ending(0, stopped=True, message="asked to stop; nothing of it is kept")
    _report(imported, run, runner.store)
    return Ending(imported.manifest.num_images)


def _steps_of(runner: PieceRunner) -> Callable[[int, int], None]:
    """What hears of every image, and of nothing while these are fetched: it tells, and leaves when asked to."""

    looked_at = 0.0

    def step(done: int, total: int) -> None:
        nonlocal looked_at
        runner.on_progress(done, total, done / total if total else 0.0)
        runner.watchdog.images_seen = done if done < total else None  # what follows is no step
        if time.monotonic() - looked_at >= _LOOK_EVERY_SECONDS:  # asking may take as long as an image
            looked_at = time.monotonic()
            if runner.wants_to_leave():
                raise LeftEarlyError

    return step


def _report(imported: Imported, run: Run, store: ObjectStore) -> None:
    """What has come of it, without a copy of the set on this machine, whose disk may be far smaller."""
    manifest = imported.manifest
    every = np.arange(manifest.num_images)
    chosen = every[:: max(1, len(every) // _PREVIEW_IMAGES)][:_PREVIEW_IMAGES]
    preview = grid_png(stored_images(manifest, chosen, store), _PREVIEW_COLUMNS)
    store.put(run.keys.results + PREVIEW, preview)
    report = ImportReport(
        manifest=manifest,
        num_left_out=len(imported.left_out),
        left_out=imported.left_out.reasons(_NAMED),
        num_ignored_files=imported.num_ignored_files,
        images_per_class=_per_class(manifest, store),
        files=(PREVIEW,),
        ended_at=datetime.now(UTC),
    )
    store.put(run.keys.dataset, manifest.model_dump_json().encode())
    store.put(run.keys.results + RESULT, report.model_dump_json(indent=2).encode())
    log.info("import.reported", digest=manifest.digest, num_left_out=report.num_left_out)


def _per_class(manifest: DatasetManifest, store: ObjectStore) -> dict[str, int] | None:
    labels = stored_labels(manifest, store)
    if labels is None or manifest.classes is None:
        return None
    counts = np.bincount(labels, minlength=manifest.num_classes)
    return dict(zip(manifest.classes, counts.tolist(), strict=True))
