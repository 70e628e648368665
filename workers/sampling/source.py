"""What a job draws from: a checkpoint of a training or a file of weights, resolved once, so that all attempts agree."""

from dataclasses import dataclass
from typing import assert_never

import torch
from pydantic import TypeAdapter

from workers.contract.compute import Workers
from workers.contract.data import DatasetManifest, ImportedDataset
from workers.contract.document import SpecError, in_field
from workers.contract.keys import JobKeys
from workers.contract.sampling import Drawing, ResolvedCheckpoint, ResolvedSource, Subject, WeightsFile
from workers.data.manifests import read_manifest
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
            found = find_source(store, drawing.checkpoint)
    else:
        raise SpecError("say what to draw from: this, or a file of weights", field="checkpoint")
    store.put_if_absent(keys.source, found.model_dump_json().encode())
    return resolved_source(store, keys)


def resolved_source(store: ObjectStore, keys: JobKeys) -> ResolvedSource:
    """What `resolve_source` has resolved; raises FileNotFoundError before that."""
    return _RESOLVED.validate_json(store.get(keys.source))


def open_source(store: ObjectStore, keys: JobKeys, *, dataset: ImportedDataset | None = None) -> Source:
    """What is known of the resolved source. `dataset`: what weights are measured by.

    Raises:
        SpecError: something of it is gone, or the images do not suit the network.
    """
    match resolved_source(store, keys):
        case ResolvedCheckpoint() as at:
            with in_field("checkpoint.job_id"):
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
        SpecError: the file is gone, or not what the job began with.
    """
    match source.resolved:
        case ResolvedCheckpoint() as at:
            denoiser, seal = load_checkpoint(store, at)
            return ready(denoiser, compute, device), seal
        case WeightsFile() as file:
            return ready(_loaded(file, JobFiles(store, keys)), compute, device), None
        case unknown:
            assert_never(unknown)


@in_field("weights")
def _resolved_file(location: str, job_files: JobFiles) -> WeightsFile:
    read_header(location, job_files=job_files)
    return WeightsFile(location=location, sha256=weights_digest(location, job_files=job_files))


def _of_file(file: WeightsFile, store: ObjectStore, keys: JobKeys, dataset: ImportedDataset | None) -> Source:
    with in_field("weights"):
        header = read_header(file.location, job_files=JobFiles(store, keys))
    subject = Subject(file.location, own_sampler(header), header.preconditioning, header.num_classes, None)
    images = _images(dataset, header, store) if dataset else None
    return Source(file, subject, (header.image_channels, header.resolution, header.resolution), images)


@in_field("dataset.digest")
def _images(dataset: ImportedDataset, header: WeightsHeader, store: ObjectStore) -> DatasetManifest:
    try:
        images = read_manifest(store, dataset.digest)
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
