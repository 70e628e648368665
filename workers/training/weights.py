"""Network weights outside a run: one safetensors file, whose header says which denoiser they belong to."""

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

import safetensors.torch
import structlog
import torch
from safetensors import SafetensorError
from torch import Tensor

from workers.contract.data import DatasetManifest
from workers.contract.document import SpecError, in_field
from workers.contract.model import effective_sigma_data
from workers.contract.networks import EDM2
from workers.contract.spec import TrainSpec
from workers.matching import tensor_mismatch
from workers.storage import JobFiles, read_beginning, read_location
from workers.training.state import TrainState
from workers.training.weights_header import FORMAT, LABEL_TENSORS, WeightsHeader, denoiser_difference, images_difference

log = structlog.get_logger()

_LARGEST_HEADER_BYTES = 100_000_000  # safetensors' own limit
_MOST_BYTES = 64 << 30  # several times the largest network there is


def save_weights(path: Path, tensors: Mapping[str, Tensor], header: WeightsHeader) -> None:
    """Write a weights file, or leave what was there: it is written beside its place and moved there.

    Raises:
        OSError: it cannot be written.
    """
    whole = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    temporary = path.with_name(f".writing-{os.getpid()}-{path.name}")
    try:
        safetensors.torch.save_file(whole, temporary, metadata=header.to_metadata())
        os.replace(temporary, path)
    except SafetensorError as error:
        raise OSError(f"cannot write {path}: {error}") from None
    finally:
        with suppress(FileNotFoundError):
            os.unlink(temporary)


def refuse_output(path: Path, *, force: bool) -> None:
    """See, before anything else is done, that a weights file can be written there.

    Raises:
        ValueError: it cannot, or something is there already and `force` does not say to replace it.
    """
    if path.is_dir() or not path.absolute().parent.is_dir():
        raise ValueError(f"cannot write {path}: name a file in a folder that is there")
    if path.exists() and not force:
        raise ValueError(f"{path} is there already: choose another --output, or replace it with --force")


def read_weights(
    location: str | Path, *, job_files: JobFiles | None = None, sha256: str | None = None
) -> tuple[WeightsHeader, dict[str, Tensor]]:
    """Read a weights file onto the CPU, from a path or a URL such as `s3://bucket/prefix/file.safetensors`.

    `job_files`: what else a job can read; None: nothing. `sha256`: what it must be; None: whatever it is.

    Raises:
        SpecError: there is none, it is damaged or another, or `save_weights` did not write it.
    """
    data = _whole(location, job_files)
    if sha256 and _digest(data) != sha256:
        raise SpecError(f"{location} is not the file any more that the job began with; submit a new job")
    header = _described(location, data)
    try:
        return header, safetensors.torch.load(data)
    except SafetensorError as error:
        raise SpecError(f"{location} is damaged, copy or convert it again: {error}") from None


def weights_digest(location: str | Path, *, job_files: JobFiles | None = None) -> str:
    """The sha256 of a weights file; raises as `read_weights`."""
    return _digest(_whole(location, job_files))


def read_header(location: str | Path, *, job_files: JobFiles | None = None) -> WeightsHeader:
    """Read what a weights file says of itself, and no more than that of it.

    Raises:
        SpecError: as `read_weights`.
    """
    return _described(location, _read(location, lambda: _header_of(location, job_files)))


def check_initial_weights(spec: TrainSpec, images: DatasetManifest | None, job_files: JobFiles) -> None:
    """See by their header that the job's `initial_weights`, if it has any, are those of its denoiser and its images.

    Without `images`, which may take hours to import, all is checked that does not depend on them.

    Raises:
        SpecError: they are not, naming the field and the mend; or they cannot be read.
    """
    if spec.initial_weights is None:
        return
    with in_field("initial_weights"):
        header = read_header(spec.initial_weights, job_files=job_files)
    measured = images.sigma_data if images else header.sigma_data
    reason = denoiser_difference(header, spec, sigma_data=effective_sigma_data(spec.preconditioning, measured))
    if reason := reason or (images_difference(header, spec, images) if images else None):
        raise SpecError(reason)


def load_initial_weights(state: TrainState, spec: TrainSpec, job_files: JobFiles) -> None:
    """Put the job's `initial_weights` into the network and all its averages.

    Weights for other classes, or none, leave those of labels as `_with_labels_of` says.

    Raises:
        SpecError: they are another denoiser's, or cannot be read; `state` is as it was.
    """
    if spec.initial_weights is None:
        return
    with in_field("initial_weights"):
        header, tensors = read_weights(spec.initial_weights, job_files=job_files)
    if reason := denoiser_difference(header, spec, sigma_data=state.denoiser.sigma_data):
        raise SpecError(reason)
    own = state.denoiser.network.state_dict()
    tensors = _with_labels_of(own, tensors, header)
    if reason := tensor_mismatch(tensors, own):
        raise SpecError(f"{spec.initial_weights} are of another network: {reason}", field="initial_weights")
    for denoiser in (state.denoiser, *state.averages):
        denoiser.network.load_state_dict(tensors)


def _with_labels_of(
    own: Mapping[str, Tensor], tensors: Mapping[str, Tensor], header: WeightsHeader
) -> dict[str, Tensor]:
    """The tensors, but for those of labels where the network has others, or none: these begin anew.

    As zeros, so that the network starts as one that is told no class; in EDM2, which normalises them, as initialised.
    """
    prefix = LABEL_TENSORS.get(header.network.kind)
    if prefix is None or _shapes(own, prefix) == _shapes(tensors, prefix):
        return {**tensors}
    is_edm2 = isinstance(header.network, EDM2)
    kept = {name: tensor for name, tensor in tensors.items() if not name.startswith(prefix)}
    for name, tensor in own.items():
        if name.startswith(prefix):
            theirs = tensors.get(name)
            fits = theirs is not None and theirs.shape == tensor.shape
            kept[name] = theirs if theirs is not None and fits else tensor if is_edm2 else torch.zeros_like(tensor)
    log.warning("initial_weights.other_classes", made_with=header.num_classes, begin_anew=sorted(_shapes(own, prefix)))
    return kept


def _shapes(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in tensors.items() if name.startswith(prefix)}


def _whole(location: str | Path, job_files: JobFiles | None) -> bytes:
    return _read(location, lambda: read_location(location, most_bytes=_MOST_BYTES, job_files=job_files))


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _read(location: str | Path, read: Callable[[], bytes]) -> bytes:
    try:
        return read()
    except FileNotFoundError:
        raise SpecError(f"there is no {location}") from None
    except OSError as error:  # names the location
        raise SpecError(str(error)) from None
    except ValueError as error:  # a URL of a kind that there is no store for
        raise SpecError(f"{location}: {error}") from None


def _header_of(location: str | Path, job_files: JobFiles | None) -> bytes:
    """No more of the file than that."""
    length = int.from_bytes(read_beginning(location, 8, job_files=job_files), "little")
    return read_beginning(location, 8 + min(length, _LARGEST_HEADER_BYTES), job_files=job_files)


def _described(location: str | Path, data: bytes) -> WeightsHeader:
    """The header at the beginning of a safetensors file: its length in 8 bytes, then JSON."""
    length = int.from_bytes(data[:8], "little")
    try:
        if len(data) < 8 + length:
            raise ValueError
        metadata = json.loads(data[8 : 8 + length]).get("__metadata__") or {}
    except (ValueError, AttributeError):
        raise SpecError(f"{location} is not a whole safetensors file") from None
    if not isinstance(metadata, dict) or metadata.get("format") != FORMAT:
        raise SpecError(f"{location} is not a weights file: snapshots of EDM and CDM become one by `cdm convert`")
    try:
        return WeightsHeader.from_metadata(metadata)
    except (ValueError, TypeError) as error:
        raise SpecError(f"the header of {location} is not as this version writes it: {error}") from None
