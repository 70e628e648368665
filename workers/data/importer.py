"""Turning what people bring into the one form that training reads: shards of raw pixels, named by their content."""

import json
from array import array
from collections import defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from pathlib import Path

import numpy as np
import structlog
from jaxtyping import UInt8

from workers.contract.data import Dataset, DatasetManifest, DatasetToImport, ImportedDataset, Shard
from workers.contract.keys import MANIFEST, dataset_folder
from workers.data.collection import ImageCollection
from workers.data.errors import DatasetError, Faults, ImageError
from workers.data.fetching import OnBytes, on_this_machine
from workers.data.formats import open_collection
from workers.data.images import read_dataset_manifest
from workers.data.pixels import RESIZE, to_pixels
from workers.data.room import require_room, writing_to
from workers.data.scratch import scratch_folder
from workers.data.shards import SHARD_BYTES, ShardWriter
from workers.storage import ObjectStore
from workers.storage.ahead import STORE_STREAMS, ahead

log = structlog.get_logger()

OnImages = Callable[[int, int], None]  # images done, and how many there are


def _unseen(_done: int, _total: int | None) -> None: ...


_LABELS = "labels.i32"

Pixels = UInt8[np.ndarray, "channels side side"]


@dataclass(frozen=True, slots=True)
class Imported:
    """What has become of a data set: images that could not be used, by name, and files that are none."""

    manifest: DatasetManifest
    left_out: Faults
    num_ignored_files: int


def import_dataset(
    dataset: Dataset,
    store: ObjectStore,
    *,
    on_progress: OnImages = _unseen,
    on_bytes: OnBytes = _unseen,
) -> DatasetManifest:
    """The image set in the store, imported if it is not there yet; every image must be usable.

    Raises:
        DatasetError: as `import_images`; or it is said to be there, and is not.
    """
    if not isinstance(dataset, ImportedDataset):
        return import_images(dataset, store, on_progress=on_progress, on_bytes=on_bytes).manifest
    try:
        return read_dataset_manifest(store, dataset.digest)
    except FileNotFoundError:
        raise DatasetError(f"dataset.digest: the store has no image set {dataset.digest}; import it first") from None


def import_images(
    dataset: DatasetToImport,
    store: ObjectStore,
    *,
    max_faulty_images: int = 0,
    on_progress: OnImages = _unseen,
    on_bytes: OnBytes = _unseen,
    shard_bytes: int = SHARD_BYTES,
) -> Imported:
    """Put a data set into the store, unless the same content is there already, in whatever format it came.

    Pixels wait in the temporary folder (TMPDIR) until every image has been seen; memory holds a few images and one
    shard, and eight while they are sent. `on_progress` hears, after each image, how many are done and how many there
    are; before that, `on_bytes` how much has come of what is not on this machine.

    Raises:
        DatasetError: naming the images that cannot be used, if they are more than `max_faulty_images`; or there is no
            room for their pixels. Then nothing has been written to the store.
    """
    with ExitStack() as stack:
        here = stack.enter_context(on_this_machine(dataset, store, on_bytes=on_bytes))
        collection = stack.enter_context(open_collection(here, on_bytes=on_bytes))
        folder = stack.enter_context(scratch_folder())
        log.info(
            "dataset.opened",
            place=collection.place,
            num_images=collection.num_images,
            num_ignored=collection.num_ignored,
        )
        writer = ShardWriter(folder, shard_bytes=shard_bytes)
        filled = _fill(writer, collection, on_progress, max_faulty_images)
        if collection.labels:
            kept = np.asarray(collection.labels.values, dtype="<i4")[np.asarray(filled.kept)]
            with writing_to(folder, collection.place):
                (folder / _LABELS).write_bytes(kept.tobytes())
        manifest = _manifest(collection, writer, filled.resolution, folder)
        return Imported(_upload(manifest, folder, store), filled.left_out, collection.num_ignored)


@dataclass(frozen=True, slots=True)
class _Filled:
    resolution: int
    kept: "array[int]"
    left_out: Faults


def _fill(writer: ShardWriter, collection: ImageCollection, on_progress: OnImages, max_faulty_images: int) -> _Filled:
    """Pass on to the writer every image that can be used, all of one resolution."""
    faults, kept = Faults(collection.place), _numbers()
    sizes: defaultdict[int, array[int]] = defaultdict(_numbers)
    for index, pixels in enumerate(_decoded(collection)):
        match pixels:
            case ImageError():
                faults.add(collection.name(index), pixels)
            case _:
                sizes[pixels.shape[-1]].append(index)
                # otherwise only the remaining faults are of interest
                if len(sizes) == 1 and len(faults) <= max_faulty_images:
                    if not kept:  # all are of one size, so the first tells how much they take
                        require_room(collection.num_images * pixels.nbytes, writer.folder, collection.place)
                    with writing_to(writer.folder, collection.place):
                        writer.append(pixels)
                    kept.append(index)
        on_progress(index + 1, collection.num_images)
    usual = max(sizes, key=lambda size: len(sizes[size]), default=0)
    for size in sizes.keys() - {usual}:
        unusual = ImageError(f"is {size} x {size} pixels, most are {usual} x {usual}", mend=RESIZE)
        for index in sizes[size]:
            faults.add(collection.name(index), unusual)
    if len(sizes) != 1 or len(faults) > max_faulty_images:
        faults.refuse()
    with writing_to(writer.folder, collection.place):
        writer.flush()
    return _Filled(usual, kept, faults)


def _numbers() -> "array[int]":
    """None yet; of hundreds of millions of images a list would take gigabytes."""
    return array("I")


def _decoded(collection: ImageCollection) -> Iterator[Pixels | ImageError]:
    """All images in their order, a few ahead of the reader."""
    threads = collection.num_readers
    return ahead(partial(_pixels, collection), range(collection.num_images), threads=threads, most=4 * threads)


def _pixels(collection: ImageCollection, index: int) -> Pixels | ImageError:
    try:
        return to_pixels(collection.image(index), channels=collection.channels, resolution=collection.resolution)
    except ImageError as error:
        return error


def _manifest(collection: ImageCollection, writer: ShardWriter, resolution: int, folder: Path) -> DatasetManifest:
    if writer.sigma_data == 0:
        raise DatasetError(f"{collection.place}: all pixels of all images are alike; there is nothing to learn")
    classes, labels = None, None
    if collection.labels:
        classes = collection.labels.classes
        digest = sha256((folder / _LABELS).read_bytes()).hexdigest()
        labels = Shard(name=_LABELS, num_images=writer.num_images, sha256=digest)
    content = {
        "channels": collection.channels,
        "classes": classes,
        "labels": labels and labels.sha256,
        "num_images": writer.num_images,
        "pixels": writer.pixels_sha256,
        "resolution": resolution,
    }
    return DatasetManifest(
        digest=sha256(json.dumps(content, sort_keys=True).encode()).hexdigest(),
        num_images=writer.num_images,
        channels=collection.channels,
        resolution=resolution,
        classes=classes,
        labels=labels,
        sigma_data=writer.sigma_data,
        shards=tuple(writer.shards),
    )


def _upload(manifest: DatasetManifest, folder: Path, store: ObjectStore) -> DatasetManifest:
    """The manifest goes last: who sees it may read all the rest."""
    target = dataset_folder(manifest.digest)
    try:
        return read_dataset_manifest(store, manifest.digest)
    except FileNotFoundError:
        pass
    names = [shard.name for shard in (*manifest.shards, *filter(None, [manifest.labels]))]
    with ThreadPoolExecutor(STORE_STREAMS) as pool:
        list(pool.map(lambda name: store.put(target + name, (folder / name).read_bytes()), names))  # or its error
    store.put(target + MANIFEST, manifest.model_dump_json(indent=2).encode())
    log.info("dataset.imported", digest=manifest.digest, num_images=manifest.num_images)
    return manifest
