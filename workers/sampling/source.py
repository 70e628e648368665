"""What a job draws from: a checkpoint of a training or a file of weights, resolved once, so that all attempts agree."""

from dataclasses import dataclass
from typing import assert_never

import torch
from pydantic import TypeAdapter

from workers.contract.compute import Workers
from workers.contract.data import DatasetManifest, ImportedDataset
from workers.contract.keys import JobKeys
from workers.contract.sampling import Drawing, ResolvedCheckpoint, ResolvedSource, Subject, WeightsFile
from workers.data.manifests import read_manifest
from workers.diffusion.denoiser import Denoiser
from workers.sampling.network import (
    SourceError,
    Trained,
    denoiser_of,
    find_source,
    load_checkpoint,
    own_sampler,
    ready,
)
from workers.storage import JobFiles, ObjectStore
from workers.training.weights import WeightsError, read_header, read_weights, weights_digest
from workers.training.weights_header import WeightsHeader

_RESOLVED: TypeAdapter[ResolvedSource] = TypeAdapter(ResolvedSource)


@dataclass(frozen=True, slots=True)
class Source:
    """A network before its weights are read, and the images that it is measured by, if any are known."""

    resolved: ResolvedSource
    subject: Subject
    shape: tuple[int, int, int]  # of an image: channels, height, width
    images: DatasetManifest | None


def resolve_source(store: ObjectStore, keys: JobKeys, drawing: Drawing) -> ResolvedSource:
    """What job `keys` draws from; later attempts find the same.

    Raises:
        SourceError: it is not there.
    """
    try:
        return resolved_source(store, keys)
    except FileNotFoundError:
        pass
    if drawing.weights:
        found: ResolvedSource = _resolved_file(drawing.weights, JobFiles(store, keys))
    elif drawing.checkpoint:
        found = find_source(store, drawing.checkpoint)
    else:
        raise SourceError("checkpoint: say what to draw from: this, or a file of weights")
    store.put_if_absent(keys.source, found.model_dump_json().encode())
    return resolved_source(store, keys)


def resolved_source(store: ObjectStore, keys: JobKeys) -> ResolvedSource:
    """What `resolve_source` has resolved; raises FileNotFoundError before that."""
    return _RESOLVED.validate_json(store.get(keys.source))


def open_source(store: ObjectStore, keys: JobKeys, *, dataset: ImportedDataset | None = None) -> Source:
    """What is known of the resolved source. `dataset`: what weights are measured by.

    Raises:
        SourceError: something of it is gone, or the images do not suit the network.
    """
    match resolved_source(store, keys):
        case ResolvedCheckpoint() as at:
            trained = Trained.of(store, at.job_id)
            images = trained.images
            shape = (images.channels, images.resolution, images.resolution)
            return Source(at, Subject.of(at.job_id, trained.spec, images), shape, images)
        case WeightsFile() as file:
            return _of_file(file, store, keys, dataset)
        case resolved:
            assert_never(resolved)


def load_source(
    source: Source, store: ObjectStore, keys: JobKeys, compute: Workers, device: torch.device
) -> tuple[Denoiser, str | None]:
    """The denoiser, after every byte of its weights has been verified, and the seal of its checkpoint.

    Raises:
        DamagedCheckpointError: the checkpoint is gone, or not what was written.
        SourceError: the file is gone, or not what the job began with.
    """
    match source.resolved:
        case ResolvedCheckpoint() as at:
            denoiser, seal = load_checkpoint(store, at)
            return ready(denoiser, compute, device), seal
        case WeightsFile() as file:
            return ready(_loaded(file, JobFiles(store, keys)), compute, device), None
        case unknown:
            assert_never(unknown)


def _resolved_file(location: str, job_files: JobFiles) -> WeightsFile:
    try:
        read_header(location, job_files=job_files)
        return WeightsFile(location=location, sha256=weights_digest(location, job_files=job_files))
    except WeightsError as error:
        raise SourceError(f"weights: {error}") from None


def _of_file(file: WeightsFile, store: ObjectStore, keys: JobKeys, dataset: ImportedDataset | None) -> Source:
    try:
        header = read_header(file.location, job_files=JobFiles(store, keys))
    except WeightsError as error:
        raise SourceError(f"weights: {error}") from None
    subject = Subject(file.location, own_sampler(header), header.preconditioning, header.num_classes, None)
    images = _images(dataset, header, store) if dataset else None
    return Source(file, subject, (header.image_channels, header.resolution, header.resolution), images)


def _images(dataset: ImportedDataset, header: WeightsHeader, store: ObjectStore) -> DatasetManifest:
    try:
        images = read_manifest(store, dataset.digest)
    except FileNotFoundError:
        mend = "an import job says the digest of its own"
        raise SourceError(f"dataset.digest: there is no image set {dataset.digest}; {mend}") from None
    if misfit := images.misfit(channels=header.image_channels, resolution=header.resolution):
        raise SourceError(f"dataset.digest: {misfit}")
    if header.num_classes not in (0, images.num_classes):
        reason = f"the network goes by {header.num_classes} classes, these images have {images.num_classes}"
        raise SourceError(f"dataset.digest: {reason}; name the image set that it learned from")
    return images


def _loaded(file: WeightsFile, job_files: JobFiles) -> Denoiser:
    try:
        return denoiser_of(*read_weights(file.location, job_files=job_files, sha256=file.sha256))
    except WeightsError as error:
        raise SourceError(f"weights: {error}") from None
