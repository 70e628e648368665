"""The network of a committed checkpoint, ready to draw."""

from dataclasses import dataclass

import safetensors.torch
import torch

from workers.contract.compute import Workers
from workers.contract.data import DatasetManifest
from workers.contract.keys import JobKeys
from workers.contract.records import CheckpointManifest, Origin
from workers.contract.sampling import CheckpointSource
from workers.contract.spec import TrainSpec
from workers.diffusion.denoiser import Denoiser
from workers.diffusion.ema import average_names
from workers.storage import ObjectStore
from workers.training.checkpoint import DamagedCheckpointError, committed_checkpoints, read_file, read_manifest
from workers.training.contents import average_file
from workers.training.state import PRECISION, new_denoiser


class SourceError(ValueError):
    """There is nothing to draw from; the message names the field and the mend."""


@dataclass(frozen=True, slots=True)
class Trained:
    """What a training job says of the network in its checkpoints."""

    spec: TrainSpec
    images: DatasetManifest

    @classmethod
    def of(cls, store: ObjectStore, job_id: str) -> "Trained":
        """Raises: SourceError, if there is no such job, or it has not begun."""
        keys = JobKeys(job_id)
        try:
            spec = TrainSpec.model_validate_json(store.get(keys.spec))
            return cls(spec, DatasetManifest.model_validate_json(store.get(keys.dataset)))
        except FileNotFoundError:
            raise SourceError(f"checkpoint.job_id: no training job {job_id} has begun in this store") from None
        except ValueError:
            raise SourceError(f"checkpoint.job_id: {job_id} is not a training job") from None


def settle_source(store: ObjectStore, keys: JobKeys, wanted: CheckpointSource) -> CheckpointSource:
    """The checkpoint that job `keys` draws from, with nothing left open; later attempts find the same.

    Raises:
        SourceError: there is none.
    """
    try:
        return CheckpointSource.model_validate_json(store.get(keys.source))
    except FileNotFoundError:
        pass
    store.put_if_absent(keys.source, find_source(store, wanted).model_dump_json().encode())
    return CheckpointSource.model_validate_json(store.get(keys.source))


def find_source(store: ObjectStore, wanted: CheckpointSource) -> CheckpointSource:
    """What is wanted, with nothing left open.

    Raises:
        SourceError: there is no such checkpoint, or it has no such average.
    """
    trained = Trained.of(store, wanted.job_id)
    at = chosen_checkpoint(store, wanted)
    names = (*average_names(trained.spec.ema), "network")
    average = wanted.average or names[0]
    if average not in names:
        raise SourceError(f"checkpoint.average: {wanted.job_id} keeps no {average}; choose {' or '.join(names)}")
    return CheckpointSource(job_id=wanted.job_id, images_seen=at.images_seen, attempt=at.attempt, average=average)


def load_denoiser(
    store: ObjectStore, source: CheckpointSource, trained: Trained, compute: Workers, device: torch.device
) -> tuple[Denoiser, CheckpointManifest]:
    """The denoiser of a settled source, after every byte of its weights has been verified, and the manifest.

    Raises:
        DamagedCheckpointError: it is gone, or not what was written.
    """
    keys, at = JobKeys(source.job_id), chosen_checkpoint(store, source)
    folder = keys.checkpoint(at.images_seen, at.attempt)
    manifest = read_manifest(store, folder)
    name = average_file(source.average or "network")
    found = [file for file in manifest.files if file.name == name]
    if not found:
        raise DamagedCheckpointError(f"{folder} lists no {name}")
    denoiser = new_denoiser(trained.spec, trained.images)
    denoiser.network.load_state_dict(safetensors.torch.load(read_file(store, folder, found[0])))
    denoiser.precision = PRECISION[compute.precision]
    denoiser = denoiser.to(device).eval().requires_grad_(False)
    if device.type == "cuda":
        denoiser.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload] # see new_state
    return denoiser, manifest


def chosen_checkpoint(store: ObjectStore, source: CheckpointSource) -> Origin:
    """The checkpoint at the images wanted, or the newest; of two attempts' the later.

    Raises:
        SourceError: there is none.
    """
    keys = JobKeys(source.job_id)
    there = [keys.of_checkpoint(folder) for folder in committed_checkpoints(store, keys)]
    fitting = [each for each in there if source.images_seen in (None, each[0]) and source.attempt in (None, each[1])]
    if not fitting:
        wanted = f"at {source.images_seen} images" if source.images_seen else "yet"
        has = f"; it has them at {' and '.join(str(seen) for seen, _ in there[-5:])}" if there else ""
        raise SourceError(f"checkpoint.images_seen: {source.job_id} has no checkpoint {wanted}{has}")
    images_seen, attempt = max(fitting)
    return Origin(job_id=source.job_id, images_seen=images_seen, attempt=attempt)
