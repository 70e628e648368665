"""What a job draws from: a checkpoint of a training or a file of weights, resolved once, so that all attempts agree."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import assert_never

import torch
from pydantic import TypeAdapter

from workers.contract.compute import Workers
from workers.contract.data import DatasetManifest, ImportedDataset
from workers.contract.document import SpecError, in_field
from workers.contract.keys import JobKeys
from workers.contract.sampling import Drawing, ResolvedCheckpoint, ResolvedSource, Subject, WeightsFile
from workers.data.images import read_dataset_manifest
from workers.diffusion.denoiser import Denoiser
from workers.sampling.network import (
    Trained,
    denoiser_of,
    find_source,
    load_checkpoint,
    own_sampler,
    ready,
)
from workers.storage import JobFiles, ObjectStore
from workers.training.weights import read_header, read_weights, weights_digest
from workers.training.weights_header import WeightsHeader

_RESOLVED: TypeAdapter[ResolvedSource] = TypeAdapter(ResolvedSource)


@dataclass(frozen=True, slots=True)
class Source:
    """A network before its weights are read, and the images that it is measured by, if any are known."""

    resolved: ResolvedSource
    subject: Subject
    shape: tuple[int, int, int]  # of an image: channels, height, width
    images: DatasetManifest | None
    read: Callable[[], tuple[Denoiser, str | None]]  # verifies every byte; with the seal of a checkpoint


def resolve_source(store: ObjectStore, keys: JobKeys, drawing: Drawing) -> ResolvedSource:
    """What job `keys` draws from; later attempts find the same.

    Raises:
        SpecError: it is not there.
    """
    try:
        return resolved_source(store, keys)
    except FileNotFoundError:
        pass
    if drawing.weights:
        found: ResolvedSource = _resolved_file(drawing.weights, JobFiles(store, keys))
    elif drawing.checkpoint:
        with in_field("checkpoint"):
            found = find_source(store, _trained(store, drawing.checkpoint.job_id), drawing.checkpoint)
    else:
        raise SpecError("say what to draw from: this, or a file of weights", field="checkpoint")
    is_first = store.put_if_absent(keys.source, found.model_dump_json().encode())
    return found if is_first else resolved_source(store, keys)


def resolved_source(store: ObjectStore, keys: JobKeys) -> ResolvedSource:
    """What `resolve_source` has resolved; raises FileNotFoundError before that."""
    return _RESOLVED.validate_json(store.get(keys.source))


def open_source(
    store: ObjectStore, keys: JobKeys, resolved: ResolvedSource, *, dataset: ImportedDataset | None = None
) -> Source:
    """What is known of it. `dataset`: what weights are measured by.

    Raises:
        SpecError: something of it is gone, or the images do not suit the network.
    """
    match resolved:
        case ResolvedCheckpoint() as at:
            with in_field("checkpoint"):
                trained = _trained(store, at.job_id)
            images = trained.images
            shape = (images.channels, images.resolution, images.resolution)
            return Source(at, trained.subject, shape, images, partial(load_checkpoint, store, trained, at))
        case WeightsFile() as file:
            return _of_file(file, store, keys, dataset)
        case _:
            assert_never(resolved)


def load_source(source: Source, compute: Workers, device: torch.device) -> tuple[Denoiser, str | None]:
    """The denoiser, after every byte of its weights has been verified, and the seal of its checkpoint.

    Raises:
        DamagedCheckpointError: the checkpoint is gone, or not what was written.
        SpecError: the file is gone, or not what the job began with.
    """
    denoiser, seal = source.read()
    return ready(denoiser, compute, device), seal


@in_field("job_id")
def _trained(store: ObjectStore, job_id: str) -> Trained:
    return Trained.of(store, job_id)


@in_field("weights")
def _resolved_file(location: str, job_files: JobFiles) -> WeightsFile:
    read_header(location, job_files=job_files)
    return WeightsFile(location=location, sha256=weights_digest(location, job_files=job_files))


def _of_file(file: WeightsFile, store: ObjectStore, keys: JobKeys, dataset: ImportedDataset | None) -> Source:
    job_files = JobFiles(store, keys)
    with in_field("weights"):
        header = read_header(file.location, job_files=job_files)
    subject = Subject(file.location, own_sampler(header), header.preconditioning, header.num_classes, None)
    images = _images(dataset, header, store) if dataset else None
    shape = (header.image_channels, header.resolution, header.resolution)
    return Source(file, subject, shape, images, lambda: (_loaded(file, job_files), None))


@in_field("dataset.digest")
def _images(dataset: ImportedDataset, header: WeightsHeader, store: ObjectStore) -> DatasetManifest:
    try:
        images = read_dataset_manifest(store, dataset.digest)
    except FileNotFoundError:
        mend = "an import job says the digest of its own"
        raise SpecError(f"there is no image set {dataset.digest}; {mend}") from None
    if misfit := images.misfit(channels=header.image_channels, resolution=header.resolution):
        raise SpecError(misfit)
    if header.num_classes not in (0, images.num_classes):
        reason = f"the network goes by {header.num_classes} classes, these images have {images.num_classes}"
        raise SpecError(f"{reason}; name the image set that it learned from")
    return images


@in_field("weights")
def _loaded(file: WeightsFile, job_files: JobFiles) -> Denoiser:
    return denoiser_of(*read_weights(file.location, job_files=job_files, sha256=file.sha256))
