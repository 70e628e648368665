"""Mean and covariance of features, and the `.npz` files that they are published in."""

import io
import math
from dataclasses import dataclass
from zipfile import ZipFile

import numpy as np
import torch
from jaxtyping import Float, Float64
from torch import Tensor

from workers.contract.document import SpecError
from workers.zips import require_whole

_ROWS = 4096  # of features that are in float64 at once
_ROUNDING = torch.finfo(torch.float64).eps
_MAX_BYTES = 4 << 30  # unpacked: 23,000 dimensions
_ASYMMETRY = 1e-6  # of the largest element; sums in another order differ by less


@dataclass(frozen=True, slots=True, eq=False)
class Statistics:
    """What the Fréchet distance sees of a set of features."""

    count: int | None  # of images; None: a file does not say
    mean: Float64[Tensor, " dimensions"]
    covariance: Float64[Tensor, "dimensions dimensions"]  # of the sample: sums are divided by count - 1
    known_factor: Float64[Tensor, "dimensions images"] | None = None  # F with F F^T = the covariance, of few images

    @classmethod
    def of(cls, features: Float[Tensor, "images dimensions"], device: torch.device | None = None) -> "Statistics":
        """Of at least two images, on their device or on another; in two passes, so that nothing cancels.

        Only a part of them is on the other device at a time.

        Raises:
            ValueError: there are fewer.
        """
        count, dimensions = features.shape
        if count < 2:
            raise ValueError(f"{count} images have no covariance: two are the fewest")
        mean = features.mean(dim=0, dtype=torch.float64).to(device)
        if count <= dimensions:  # so that nobody has to find by eigenvalues of what few images it was
            factor = (features.to(mean.device).double() - mean).T / math.sqrt(count - 1)
            return cls(count, mean, factor @ factor.T, factor)
        scatter = torch.zeros(dimensions, dimensions, dtype=torch.float64, device=mean.device)
        for first in range(0, count, _ROWS):
            centred = features[first : first + _ROWS].to(mean.device).double() - mean
            scatter += centred.T @ centred
        return cls(count, mean, scatter / (count - 1))

    def to(self, device: torch.device) -> "Statistics":
        """The same on another device."""
        known = None if self.known_factor is None else self.known_factor.to(device)
        return Statistics(self.count, self.mean.to(device), self.covariance.to(device), known)

    def factor(self) -> Float64[Tensor, "dimensions rank"]:
        """F with F F^T = the covariance, as far as float64 tells its eigenvalues from 0."""
        if self.known_factor is not None:
            return self.known_factor
        values, vectors = torch.linalg.eigh(self.covariance)
        real = values > len(values) * _ROUNDING * values[-1].clamp(min=0)
        factor: Tensor = vectors[:, real] * values[real].sqrt()
        return factor

    @classmethod
    def from_npz(cls, data: bytes) -> "Statistics":
        """Read EDM's layout: `mu` and `sigma`. No pickle in it is run.

        Raises:
            SpecError: it is no such file, or holds what no features have.
        """
        mean, covariance = _arrays(data)
        dimensions = len(mean) if mean.ndim == 1 else 0
        if not dimensions or covariance.shape != (dimensions, dimensions):
            shapes = f"{[*mean.shape]} and {[*covariance.shape]}"
            raise SpecError(f"mu and sigma are of shapes {shapes}, not [n] and [n, n]")
        if not (np.isfinite(mean).all() and np.isfinite(covariance).all()):
            raise SpecError("mu or sigma is not finite everywhere; compute it again")
        if np.abs(covariance - covariance.T).max() > _ASYMMETRY * np.abs(covariance).max():
            raise SpecError("sigma is not symmetric, so it is no covariance")
        if (np.diagonal(covariance) < 0).any():
            raise SpecError("sigma has a negative variance on its diagonal, so it is no covariance")
        return cls(None, torch.from_numpy(mean), torch.from_numpy((covariance + covariance.T) / 2))


def _arrays(data: bytes) -> tuple[np.ndarray, np.ndarray]:
    try:
        with ZipFile(io.BytesIO(data)) as archive:
            require_whole(archive, most_bytes=_MAX_BYTES)  # NumPy reads to no end, where checksums are compared
        with np.load(io.BytesIO(data), allow_pickle=False) as loaded:
            found = {name: np.asarray(loaded[name]) for name in loaded.files if name in ("mu", "sigma")}
    except Exception as error:  # noqa: BLE001 - there is nothing that a damaged archive may not raise
        raise SpecError(f"not a NumPy archive of numbers: {error}") from None
    wrong = [name for name in ("mu", "sigma") if name not in found or found[name].dtype.kind != "f"]
    if wrong:
        raise SpecError(f"it has no array of floating-point numbers {wrong[0]!r}; EDM's layout is mu and sigma")
    return found["mu"].astype(np.float64), found["sigma"].astype(np.float64)
