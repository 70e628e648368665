"""Where a run starts: its newest checkpoint, its origin's, or its initial weights, in every process alike."""

from itertools import chain

import structlog

from workers.contract.keys import JobKeys
from workers.contract.spec import TrainSpec
from workers.storage import ObjectStore
from workers.storage.job_files import JobFiles
from workers.training.checkpoint import restore, restore_latest
from workers.training.origin import read_origin
from workers.training.snapshot import tensors_of
from workers.training.state import TrainState
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
    folder, state.images_seen = world.from_first((folder, state.images_seen))
    return folder


def share_state(state: TrainState, world: World) -> None:
    """Give every process the tensors of the first. It takes moments, so whoever waits for longer waits in vain."""
    world.share(chain.from_iterable(tensors.values() for tensors in tensors_of(state).values()))


def _restore_checkpoint(state: TrainState, store: ObjectStore, keys: JobKeys) -> str | None:
    folder = restore_latest(state, store, keys)
    if folder is None and (origin := read_origin(store, keys)):
        folder = origin.folder
        restore(state, store, folder)
        log.info("origin.restored", origin=origin.job_id, images_seen=origin.images_seen)
    return folder
