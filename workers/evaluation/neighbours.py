"""Nearest neighbours among features, exactly, in pieces that fit into memory."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor

_ELEMENTS = 1 << 22  # of distances that are held at once: 32 MiB
_PAIRS = 1024  # of features that are subtracted at once


@dataclass(frozen=True, slots=True, eq=False)
class Nearest:
    """Of each image, how far its nearest neighbour is, and which."""

    distances: Float64[Tensor, " images"]
    indices: Int64[Tensor, " images"]


def distance_rows(
    x: Float[Tensor, "images_x dimensions"], y: Float[Tensor, "images_y dimensions"]
) -> Iterator[tuple[int, Float64[Tensor, "rows images_y"]]]:
    """Euclidean distances from each x to all y, a few rows of the matrix at a time, with the number of the first.

    Exact to a hundred-millionth of the features' length or so: alike features may be that far apart.
    """
    y = y.double()
    lengths = y.square().sum(dim=1)
    rows = max(_ELEMENTS // max(len(y), 1), 1)
    for first in range(0, len(x), rows):
        part = x[first : first + rows].double()
        squares = torch.addmm(part.square().sum(dim=1)[:, None] + lengths, part, y.T, alpha=-2)
        yield first, squares.clamp_(min=0).sqrt_()


def without_themselves(first: int, rows: Float64[Tensor, "rows images"]) -> Float64[Tensor, "rows images"]:
    """Of distances of a set to itself: each image infinitely far from itself."""
    rows.diagonal(offset=first).fill_(torch.inf)
    return rows


def nearest(queries: Float[Tensor, "images dimensions"], references: Float[Tensor, "others dimensions"]) -> Nearest:
    """The nearest reference of each query; the first of equals."""
    return _nearest(queries, references, [rows.argmin(dim=1) for _, rows in distance_rows(queries, references)])


def nearest_others(images: Float[Tensor, "images dimensions"]) -> Nearest:
    """The nearest other image of each: of two alike, one is the other's, at distance 0."""
    found = [without_themselves(first, rows).argmin(dim=1) for first, rows in distance_rows(images, images)]
    return _nearest(images, images, found)


def radii(images: Float[Tensor, "images dimensions"], k: int) -> Float64[Tensor, " images"]:
    """From each image to the k-th nearest other."""
    pieces = distance_rows(images, images)
    # Not `kthvalue`, which refuses to be deterministic on a GPU, for its indices.
    return torch.cat([without_themselves(first, rows).topk(k, largest=False).values[:, -1] for first, rows in pieces])


def _nearest(queries: Tensor, references: Tensor, found: list[Tensor]) -> Nearest:
    """With the distances computed once more, directly, so that they are 0 for copies."""
    indices = torch.cat(found)
    distances = [
        (queries[rows].double() - references[indices[rows]].double()).square().sum(dim=1).sqrt()
        for rows in (slice(first, first + _PAIRS) for first in range(0, len(queries), _PAIRS))
    ]
    return Nearest(torch.cat(distances), indices)
