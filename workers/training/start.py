"""Where a run starts: its newest checkpoint, or its origin's, in every process alike."""

import structlog

from workers.contract.keys import JobKeys
from workers.storage import ObjectStore
from workers.training.checkpoint import restore, restore_latest
from workers.training.origin import origin_folder, read_origin
from workers.training.state import TrainState
from workers.training.world import World

log = structlog.get_logger()


def restore_start(state: TrainState, store: ObjectStore, keys: JobKeys, world: World) -> str | None:
    """Put one and the same checkpoint into the state of every process; return its folder, None if there is none.

    It is the newest of the job that the first process finds whole; if there is none, that of the job's origin.

    Raises:
        DamagedCheckpointError: the origin's is not whole. A fork that started from nothing would be another job.
    """
    folder = world.from_first(_restore_first(state, store, keys) if world.is_first else None)
    if folder and not world.is_first:
        restore(state, store, folder)
    return folder


def _restore_first(state: TrainState, store: ObjectStore, keys: JobKeys) -> str | None:
    folder = restore_latest(state, store, keys)
    if folder is None and (origin := read_origin(store, keys)):
        folder = origin_folder(origin)
        restore(state, store, folder)
        log.info("origin.restored", origin=origin.job_id, images_seen=origin.images_seen)
    return folder
