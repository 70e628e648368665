"""Affine maps of images, sampled bilinearly between pixels at twice the resolution.

As the augmentation of StyleGAN2-ADA does it (Karras et al. 2020, arXiv 2006.06676, appendix B), but for the edges.
Beyond them an image goes on as its reflection, as often as needed; so there is no margin that a far shift could exceed.
"""

import math
from functools import lru_cache

import torch
from jaxtyping import Float
from torch import Tensor

from workers.diffusion.transfer import to_device

# Daubechies' least asymmetric low-pass filter with six vanishing moments ("sym6"), by spectral factorisation of the
# maximally flat half-band polynomial.
SYM6 = (
    0.0154041093270448243,
    0.00349071208422216252,
    -0.117990111148520025,
    -0.048311742585698055,
    0.491055941927973733,
    0.787641141028650996,
    0.337929421728165833,
    -0.0726375227863765835,
    -0.021060292512370848,
    0.0447249017707813847,
    0.00176771186425400774,
    -0.00780070832503238041,
)
_REACH = len(SYM6) - 2  # fine pixels beyond two for each pixel, that have a part in some pixel
# The filter moves lines by its first moment, not by half its length: else a turn by pi would miss by 0.4 pixels.
_DELAY = sum(k * tap for k, tap in enumerate(SYM6)) / sum(SYM6)


def warp(
    images: Float[Tensor, "batch channels size size"], sources: Float[Tensor, "batch 2 3"]
) -> Float[Tensor, "batch channels size size"]:
    """What `sources`, [A | b], point to: the place x of each image shows what was at A x + b.

    In pixels from the centre, x before y, which points down. Values may go a little beyond those of the images. No part
    of the result depends on the other images, and the host does not wait for the device.
    """
    size = images.shape[-1]
    up, down, places = _resampling(size, images.device)
    fine = up @ images @ up.T
    a = sources[..., None, None]  # of each image a number for all of its fine pixels
    shown = a[:, :, 0] * places + a[:, :, 1] * places[:, None] + a[:, :, 2] + (size - 1) / 2
    folded = shown.remainder(2 * (size - 1))
    inside = torch.minimum(folded, 2 * (size - 1) - folded)
    grid = (2 * inside + _DELAY) * 2 / (len(up) - 1) - 1  # grid_sample: from -1 to 1, the centres of the first and last
    warped = torch.nn.functional.grid_sample(fine, grid.permute(0, 2, 3, 1), mode="bilinear", align_corners=True)
    return down @ warped @ down.T


@lru_cache(maxsize=8)
def _resampling(
    size: int, device: torch.device
) -> tuple[Float[Tensor, "fine size"], Float[Tensor, "size fine"], Float[Tensor, " fine"]]:
    """Matrices to twice the resolution and back for each row or column, and where the fine pixels lie.

    The first reflects at the edges. One after the other, without reflection, they would be the identity: even shifts of
    the filter are orthonormal.
    """
    num_fine = 2 * size + _REACH
    up, down = torch.zeros(num_fine, size, dtype=torch.float64), torch.zeros(size, num_fine, dtype=torch.float64)
    taps = torch.tensor(SYM6, dtype=torch.float64)
    for pixel in range(-_REACH // 2, size + _REACH // 2):
        first = 2 * pixel
        inside = [k for k in range(len(SYM6)) if 0 <= first + k < num_fine]
        fine = torch.tensor([first + k for k in inside])
        folded = pixel % (2 * (size - 1))
        up[fine, min(folded, 2 * (size - 1) - folded)] += math.sqrt(2) * taps[inside]
        if 0 <= pixel < size:
            down[pixel, fine] = taps[inside] / math.sqrt(2)
    places = (torch.arange(num_fine) - _DELAY) / 2 - (size - 1) / 2
    return to_device(up.float(), device), to_device(down.float(), device), to_device(places.float(), device)
