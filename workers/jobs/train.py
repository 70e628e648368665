"""What a training job does before its workers start; what these do is `workers/training/loop.py`."""

import structlog
import torch

from workers.contract.data import DatasetManifest
from workers.contract.document import SpecError
from workers.contract.keys import JobKeys
from workers.contract.spec import TrainSpec
from workers.data import import_dataset
from workers.data.fetching import OnBytes
from workers.jobs.bringing import bring_from_the_web
from workers.storage import JobFiles, ObjectStore
from workers.storage.job_folder import committed_checkpoints
from workers.training.snapshot import refuse_unstorable
from workers.training.start import check_origin, read_origin
from workers.training.state import new_denoiser
from workers.training.weights import check_initial_weights

log = structlog.get_logger()


def prepare_training(spec: TrainSpec, keys: JobKeys, store: ObjectStore, *, on_bytes: OnBytes) -> None:
    """Import the image set unless it already is, and see that the network fits it.

    `on_bytes` hears of what comes, and after each image; it may raise to end this.

    Raises:
        SpecError: something in the document does not fit; the message names the field.
        DatasetError: the images cannot be used.
    """

    def on_progress(done: int, total: int) -> None:
        on_bytes(done, total)
        if done == total or done % 10_000 == 0:
            log.info("dataset.importing", images=done, of=total)

    try:
        manifest = DatasetManifest.model_validate_json(store.get(keys.dataset))
    except FileNotFoundError:
        _check_start(spec, keys, store, None, on_bytes)
        manifest = import_dataset(spec.dataset, store, on_progress=on_progress, on_bytes=on_bytes)
        if not store.put_if_absent(keys.dataset, manifest.model_dump_json().encode()):  # another was first
            manifest = DatasetManifest.model_validate_json(store.get(keys.dataset))
    log.info("dataset.ready", digest=manifest.digest, num_images=manifest.num_images, sigma_data=manifest.sigma_data)
    try:
        with torch.device("meta"):
            refuse_unstorable(new_denoiser(spec, manifest).network)
    except ValueError as error:
        raise SpecError(str(error)) from error
    if not committed_checkpoints(store, keys):  # with one, nobody reads what it started from again
        _check_start(spec, keys, store, manifest, on_bytes)


def _check_start(
    spec: TrainSpec,
    keys: JobKeys,
    store: ObjectStore,
    images: DatasetManifest | None,
    on_bytes: OnBytes,
) -> None:
    """See that the job can start from its origin or its initial weights, as far as `images` do not matter to that."""
    origin = read_origin(store, keys)
    try:
        if origin:
            check_origin(origin, store, spec, images)
        else:
            bring_from_the_web(spec, keys, store, on_bytes=on_bytes)
            check_initial_weights(spec, images, JobFiles(store, keys))
    except SpecError:
        raise
    except ValueError as error:  # the document of its parent is one that this release cannot read
        raise SpecError(str(error)) from error
