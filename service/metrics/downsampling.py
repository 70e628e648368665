"""Fewer points of the same look: the largest triangle of each bucket stays (Steinarsson 2013, "LTTB")."""

from collections.abc import Sequence
from itertools import pairwise

from service.mlflow import Point


def down_sample(points: Sequence[Point], max_points: int) -> list[Point]:
    """At most so many (three or more) of the points, which are in order of images seen; none is invented.

    Where points without a value are few they stay, since they are trouble that one wants to see; else a quarter of all
    that stay are such, evenly chosen.
    """
    if len(points) <= max_points:
        return list(points)
    gaps = [index for index, point in enumerate(points) if point.value is None]
    drawn = [
        (index, float(point.images_seen), point.value) for index, point in enumerate(points) if point.value is not None
    ]
    kept_gaps = _evenly(gaps, max(max_points // 4, max_points - len(drawn)))
    kept = _largest_triangles(drawn, max_points - len(kept_gaps))
    return [points[index] for index in sorted([*kept_gaps, *kept])]


_Drawn = tuple[int, float, float]  # index, x, y


def _largest_triangles(drawn: Sequence[_Drawn], max_points: int) -> list[int]:
    """Both ends, and from each of the buckets between them the point that makes the largest triangle with the point
    kept before it and the middle of the bucket behind it."""
    if len(drawn) <= max_points:
        return [index for index, _, _ in drawn]
    inner, num_buckets = len(drawn) - 2, max_points - 2
    edges = [1 + inner * bucket // num_buckets for bucket in range(num_buckets + 1)]
    buckets = [drawn[first:end] for first, end in pairwise(edges)]
    kept = [drawn[0]]
    for bucket, behind in pairwise([*buckets, drawn[-1:]]):
        middle_x = sum(x for _, x, _ in behind) / len(behind)
        middle_y = sum(y for _, _, y in behind) / len(behind)
        kept.append(_furthest(bucket, kept[-1], middle_x, middle_y))
    return [index for index, _, _ in [*kept, drawn[-1]]]


def _furthest(bucket: Sequence[_Drawn], before: _Drawn, middle_x: float, middle_y: float) -> _Drawn:
    _, left_x, left_y = before

    def area(point: _Drawn) -> float:
        _, x, y = point
        return abs((left_x - middle_x) * (y - left_y) - (left_x - x) * (middle_y - left_y))

    return max(bucket, key=area)


def _evenly(indices: Sequence[int], number: int) -> list[int]:
    """So many of them, both ends included if there are two."""
    if len(indices) <= number:
        return list(indices)
    if number < 2:
        return list(indices[:number])
    return [indices[place * (len(indices) - 1) // (number - 1)] for place in range(number)]
