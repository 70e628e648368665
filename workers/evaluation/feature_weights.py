"""Weights of feature networks: read, compared with their digest, and only then looked into."""

from collections.abc import Mapping
from hashlib import sha256
from io import BytesIO

import torch
from torch import Tensor, nn

from workers.contract.document import SpecError
from workers.matching import tensor_mismatch
from workers.storage import JobFiles, read_location

_MOST_BYTES = 1 << 30  # Inception has 0.1


def read_state_dict(location: str, *, digest: str, job_files: JobFiles | None) -> dict[str, Tensor]:
    """The tensors of a PyTorch file at a path or URL such as `s3://bucket/file.pth`, on the CPU. Nothing in it is run.

    Raises:
        SpecError: it cannot be read, its bytes have another sha256, or it holds anything but tensors by name.
    """
    try:
        data = read_location(location, most_bytes=_MOST_BYTES, job_files=job_files)
    except (OSError, ValueError) as error:
        raise SpecError(str(error)) from None
    if (found := sha256(data).hexdigest()) != digest:
        raise SpecError(f"{location}: its sha256 is {found}, the document says {digest}")
    try:
        content = torch.load(BytesIO(data), map_location="cpu", weights_only=True)
    except Exception as error:  # noqa: BLE001 - there is nothing that a damaged or hostile file may not raise
        reason = str(error).strip().partition("\n")[0]
        raise SpecError(f"{location} was refused, nothing in it was run: {reason or type(error).__name__}") from None
    if not isinstance(content, Mapping) or not all(isinstance(each, Tensor) for each in content.values()):
        raise SpecError(f"{location} is not a dictionary of tensors; bring a state_dict")
    return dict(content)


def load_weights(network: nn.Module, tensors: Mapping[str, Tensor], *, location: str) -> None:
    """Put them into a network. Not asked for, and not minded: its classifier `fc`, and counts of batches seen.

    Raises:
        SpecError: they are those of another network, naming the first few tensors that differ.
    """
    expected = {name: tensor for name, tensor in network.state_dict().items() if not _is_idle(name)}
    given = {name: tensor for name, tensor in tensors.items() if not _is_idle(name)}
    if mismatch := tensor_mismatch(given, expected):
        raise SpecError(f"{location} is of another network: {mismatch}")
    network.load_state_dict(given, strict=False)


def _is_idle(name: str) -> bool:
    return name.endswith(".num_batches_tracked") or name.lstrip("_").startswith("fc.")
