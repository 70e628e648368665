"""Where a run starts: its newest checkpoint, its origin's, or its initial weights, in every process alike."""

from itertools import chain

import safetensors.torch
import structlog
import torch
from torch import Tensor

from workers.contract.data import DatasetManifest
from workers.contract.document import SpecError
from workers.contract.keys import JobKeys
from workers.contract.model import (
    Preconditioning,
    average_names,
    effective_sigma_data,
    preconditioning_difference,
    with_sigma_data,
)
from workers.contract.records import CheckpointManifest, CheckpointRef
from workers.contract.spec import TrainSpec
from workers.matching import tensor_mismatch
from workers.storage import ObjectStore
from workers.storage.job_files import JobFiles
from workers.training.checkpoint import (
    DamagedCheckpointError,
    listed,
    read_file,
    read_manifest,
    restore,
    restore_latest,
)
from workers.training.snapshot import NETWORK, STATE, needed_files, sigma_data_of, tensors_of
from workers.training.state import TrainState, new_denoiser
from workers.training.weights import load_initial_weights
from workers.training.world import World

log = structlog.get_logger()


def restore_start(state: TrainState, spec: TrainSpec, store: ObjectStore, keys: JobKeys, world: World) -> str | None:
    """Put the start into the state of the first process; return its folder, None if it is no checkpoint.

    It is the newest checkpoint of the job that is whole; if there is none, that of the job's origin; if it has none,
    `spec.initial_weights`, or nothing. The others hear how far it is, and get its tensors by `share_state`.

    Raises:
        DamagedCheckpointError: the origin's is not whole. A fork that started from nothing would be another job.
        SpecError: the initial weights are another denoiser's, or cannot be read.
    """
    folder = None
    if world.is_first:
        folder = _restore_checkpoint(state, store, keys)
        if folder is None:
            load_initial_weights(state, spec, JobFiles(store, keys))
    folder, state.images_seen = world.broadcast_object((folder, state.images_seen))
    return folder


def share_state(state: TrainState, world: World) -> None:
    """Give every process the tensors of the first. It takes moments, so whoever waits for longer waits in vain."""
    world.broadcast(chain.from_iterable(tensors.values() for tensors in tensors_of(state).values()))


def read_origin(store: ObjectStore, keys: JobKeys) -> CheckpointRef | None:
    """Where the job starts, if it is a fork."""
    try:
        return CheckpointRef.model_validate_json(store.get(keys.origin))
    except FileNotFoundError:
        return None


def check_origin(origin: CheckpointRef, store: ObjectStore, spec: TrainSpec, images: DatasetManifest | None) -> None:
    """See that a job of this spec can go on from the checkpoint.

    Without `images`, which may take hours to import, all is checked that does not depend on them.

    Raises:
        SpecError: it cannot.
        DamagedCheckpointError: the weights in it are not those that were written.
    """
    name = f"the checkpoint of {origin.job_id} at {origin.images_seen} images"
    try:
        manifest = read_manifest(store, origin.folder)
    except DamagedCheckpointError as error:
        raise SpecError(f"{name} is not there; fork from one that the job lists ({error})", field="origin") from error
    if spec.duration_images <= origin.images_seen:
        mend = f"set it above {origin.images_seen}"
        raise SpecError(f"training goes on from {name}; {mend}", field="duration_images")
    there, needed = {file.name for file in manifest.files}, needed_files(average_names(spec.ema))
    if missing := needed - there:
        mend = "leave ema as it is in that job"
        raise SpecError(f"{name} has no {' and no '.join(sorted(missing))}; {mend}", field="ema")
    if found := preconditioning_difference(_preconditioning(origin, store, manifest), _prepared(spec, images)):
        field, made, has = found
        mend = f"set preconditioning.{field}={made}: the weights mean something else otherwise"
        misfit = f"{name} was trained with {made}, this job has {has}; {mend}"
        raise SpecError(misfit, field=f"preconditioning.{field}")
    if images and (reason := _mismatch(store, manifest, origin.folder, spec, images)):
        mend = "leave network, augmentation and the size and classes of the images as they are in that job"
        raise SpecError(f"{name} is of another network: {reason}; {mend}", field="network")


def _restore_checkpoint(state: TrainState, store: ObjectStore, keys: JobKeys) -> str | None:
    folder = restore_latest(state, store, keys)
    if folder is None and (origin := read_origin(store, keys)):
        folder = origin.folder
        restore(state, store, folder)
        log.info("origin.restored", origin=origin.job_id, images_seen=origin.images_seen)
    return folder


def _preconditioning(origin: CheckpointRef, store: ObjectStore, manifest: CheckpointManifest) -> Preconditioning:
    """That of the checkpoint; its document may leave open what was measured on its images."""
    trained = TrainSpec.model_validate_json(store.get(JobKeys(origin.job_id).spec))
    state = _contents(store, manifest, origin.folder, STATE)
    return with_sigma_data(trained.preconditioning, sigma_data_of(state))


def _prepared(spec: TrainSpec, images: DatasetManifest | None) -> Preconditioning:
    """The job's own, as its denoiser will have it; without images what they decide is open."""
    own = spec.preconditioning
    return with_sigma_data(own, effective_sigma_data(own, images.sigma_data)) if images else own


def _mismatch(
    store: ObjectStore, manifest: CheckpointManifest, folder: str, spec: TrainSpec, images: DatasetManifest
) -> str | None:
    with torch.device("meta"):
        expected: dict[str, Tensor] = new_denoiser(spec, images).network.state_dict()
    return tensor_mismatch(safetensors.torch.load(_contents(store, manifest, folder, NETWORK)), expected)


def _contents(store: ObjectStore, manifest: CheckpointManifest, folder: str, name: str) -> bytes:
    return read_file(store, folder, listed(manifest, name))
