"""Which checkpoints of a job stay, and what goes to make room for them.

A fork pins the checkpoint that it starts from for good, a job that draws from it until it is done or never will be, and
each then looks whether it is still committed. Here it is the other way round: what is to go is first taken back, and
pins are looked for afterwards. So whichever comes first, a pinned checkpoint that its job has seen stays.
"""

from collections.abc import Iterator

import structlog

from workers.contract.keys import MANIFEST, JobKeys
from workers.contract.spec import TrainSpec
from workers.storage import ObjectStore
from workers.storage.job_folder import committed_checkpoints

log = structlog.get_logger()


def remove_old_checkpoints(
    store: ObjectStore, keys: JobKeys, spec: TrainSpec, *, attempt: int, images_seen: int
) -> None:
    """Keep what the spec says and what forks start from; remove the rest, and what uploads that died have left.

    To be called when the checkpoint at `images_seen` is committed, which is the newest of those that stay: any that
    are ahead of it were passed over when this run began, for they are damaged. Uploads of later attempts are left
    alone. May be called again after any error, and by nobody else meanwhile.
    """
    if spec.cadence.keep_last is None:
        return
    committed = [each for each in committed_checkpoints(store, keys) if keys.of_checkpoint(each)[0] <= images_seen]
    pinned = _pinned(store, keys)
    for folder in committed[: -spec.cadence.keep_last]:
        if folder in pinned or _is_kept(folder, keys, spec):
            continue
        manifest = store.get(folder + MANIFEST)
        store.delete(folder + MANIFEST)
        if folder in _pinned(store, keys):
            store.put(folder + MANIFEST, manifest)
            continue
        _delete_all(store, folder)
        log.info("checkpoint.removed", folder=folder)
    for folder in _torn(store, keys, attempt):
        _delete_all(store, folder)
        log.info("checkpoint.torn_removed", folder=folder)


def _is_kept(folder: str, keys: JobKeys, spec: TrainSpec) -> bool:
    """Of each multiple there is one, after the first batch that reaches it: it is a multiple of their cadence, too."""
    every, (images_seen, _) = spec.cadence.keep_every_images, keys.of_checkpoint(folder)
    return every is not None and images_seen % every < spec.batch_images


def _pinned(store: ObjectStore, keys: JobKeys) -> set[str]:
    names = (key.removeprefix(keys.pins).partition(".")[0] for key in store.list(keys.pins))
    return {f"{keys.checkpoints}{name}/" for name in names}


def _torn(store: ObjectStore, keys: JobKeys, attempt: int) -> Iterator[str]:
    """Folders of this attempt and earlier ones that have files and no manifest."""
    folders = {key.rpartition("/")[0] + "/" for key in store.list(keys.checkpoints)}
    for folder in sorted(folders - {*committed_checkpoints(store, keys)}):
        if keys.of_checkpoint(folder)[1] <= attempt:
            yield folder


def _delete_all(store: ObjectStore, folder: str) -> None:
    for key in store.list(folder):
        store.delete(key)
