"""Trained networks out of checkpoints and files, ready to draw."""

from collections.abc import Mapping
from dataclasses import dataclass

import safetensors.torch
import torch
from torch import Tensor

from workers.contract.compute import Workers
from workers.contract.data import DatasetManifest
from workers.contract.document import SpecError, read_leniently
from workers.contract.keys import JobKeys
from workers.contract.model import Sampler
from workers.contract.sampling import CheckpointSource, ResolvedCheckpoint, Subject
from workers.contract.spec import TrainSpec
from workers.diffusion.denoiser import Denoiser
from workers.networks import build
from workers.storage import ObjectStore
from workers.storage.job_folder import committed_checkpoints
from workers.training.checkpoint import listed, read_file, read_manifest
from workers.training.snapshot import average_file
from workers.training.state import PRECISION, new_denoiser
from workers.training.weights_header import WeightsHeader

SAMPLER = "sampler"  # of the training, in the header of an exported file


@dataclass(frozen=True, slots=True)
class Trained:
    """What a training job says of the network in its checkpoints."""

    job_id: str
    spec: TrainSpec
    images: DatasetManifest

    @property
    def subject(self) -> Subject:
        return Subject.of(self.job_id, self.spec, self.images)

    @classmethod
    def of(cls, store: ObjectStore, job_id: str) -> "Trained":
        """Raises: SpecError, if there is no such job, or it has not begun."""
        keys = JobKeys(job_id)
        try:
            spec = TrainSpec.model_validate_json(store.get(keys.spec))
            return cls(job_id, spec, DatasetManifest.model_validate_json(store.get(keys.dataset)))
        except FileNotFoundError:
            raise SpecError(f"no training job {job_id} has begun in this store") from None
        except ValueError:
            raise SpecError(f"{job_id} is not a training job") from None


def find_source(store: ObjectStore, trained: Trained, wanted: CheckpointSource) -> ResolvedCheckpoint:
    """The training's checkpoint at the images wanted, or the newest; of two attempts' the later.

    Raises:
        SpecError: there is no such checkpoint, or it has no such average.
    """
    images_seen, attempt = _chosen(store, wanted)
    if reason := trained.subject.average_problem(wanted.average):
        raise SpecError(reason, field="average")
    average = wanted.average or trained.subject.averages[0]
    return ResolvedCheckpoint(job_id=trained.job_id, images_seen=images_seen, attempt=attempt, average=average)


def load_checkpoint(store: ObjectStore, trained: Trained, source: ResolvedCheckpoint) -> tuple[Denoiser, str | None]:
    """The denoiser, after every byte of its weights has been verified, and the seal of the checkpoint.

    Raises:
        DamagedCheckpointError: it is gone, or not what was written.
    """
    manifest = read_manifest(store, source.folder)
    weights = read_file(store, source.folder, listed(manifest, average_file(source.average)))
    denoiser = new_denoiser(trained.spec, trained.images)
    denoiser.network.load_state_dict(safetensors.torch.load(weights))
    return denoiser, manifest.seal


def own_sampler(header: WeightsHeader) -> Sampler:
    """That of the training, where the file says it; else the usual one."""
    own = header.extra.get(SAMPLER)
    return (read_leniently(Sampler, own) if own else None) or Sampler()


def denoiser_of(header: WeightsHeader, tensors: Mapping[str, Tensor]) -> Denoiser:
    """That of a file of weights."""
    network = build(
        header.network,
        image_channels=header.image_channels,
        resolution=header.resolution,
        num_classes=header.num_classes,
        augmentation_features=header.augmentation_features,
    )
    network.load_state_dict(tensors)
    return Denoiser(network, preconditioning=header.preconditioning, sigma_data=header.sigma_data)


def ready(denoiser: Denoiser, compute: Workers, device: torch.device) -> Denoiser:
    """The same where it is to compute, and as it is to."""
    denoiser.precision = PRECISION[compute.precision]
    denoiser = denoiser.to(device).eval().requires_grad_(False)
    if device.type == "cuda":
        denoiser.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload] # see new_state
    return denoiser


def _chosen(store: ObjectStore, wanted: CheckpointSource) -> tuple[int, int]:
    """Images seen and attempt; raises SpecError."""
    keys = JobKeys(wanted.job_id)
    there = [keys.of_checkpoint(folder) for folder in committed_checkpoints(store, keys)]
    fitting = [each for each in there if wanted.images_seen in (None, each[0]) and wanted.attempt in (None, each[1])]
    if not fitting:
        which = f"at {wanted.images_seen} images" if wanted.images_seen else "yet"
        has = f"; it has them at {' and '.join(str(seen) for seen, _ in there[-5:])}" if there else ""
        raise SpecError(f"{wanted.job_id} has no checkpoint {which}{has}", field="images_seen")
    return max(fitting)
