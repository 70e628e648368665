"""What an evaluation has found, out of its pieces."""

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import NamedTuple, assert_never

import numpy as np
import torch

from workers.contract.document import SpecError, in_field
from workers.contract.evaluation import TIMELINE_IMAGES, Curve, Findings, Measure, Weighting
from workers.contract.keys import GRID
from workers.contract.model import EDM, VE, VP
from workers.data import ImageSet
from workers.evaluation.drift import by_level, over_levels
from workers.evaluation.drift_plot import draw
from workers.evaluation.measures import compare_with_images, compare_with_statistics
from workers.evaluation.neighbours import Nearest
from workers.evaluation.statistics import Statistics
from workers.pictures import grid_png
from workers.sampling.evaluation_plan import GAP, HELD_OUT_GAP, HELD_OUT_LOSS, LOSS, OWN_GAP, EvaluationPlan
from workers.storage import JobFiles, read_location
from workers.training.backend import versions

NEAREST, DRIFT, TIMELINE = "nearest.png", "drift.png", "timeline.png"
_MOST_BYTES = 256 << 20  # of statistics; 2048 dimensions take 32 MiB
_GRID_IMAGES, _COLUMNS, _GALLERY_ROWS = 64, 8, 4
_LOSSES = {LOSS: "at training images", HELD_OUT_LOSS: "at held-out images"}
_GAPS = {GAP: "at training images", OWN_GAP: "on own paths", HELD_OUT_GAP: "at held-out images"}


@in_field("reference")
def read_statistics(location: str, *, dimensions: int, job_files: JobFiles) -> tuple[Statistics, str]:
    """Published statistics, and the digest of their file.

    Raises:
        SpecError: they cannot be read, or are of other features.
    """
    try:
        data = read_location(location, most_bytes=_MOST_BYTES, job_files=job_files)
    except (OSError, ValueError) as error:
        raise SpecError(str(error)) from None
    statistics = Statistics.from_npz(data)
    if len(statistics.mean) != dimensions:
        raise SpecError(
            f"{location} is of {len(statistics.mean)} dimensions, these features have {dimensions}; "
            "choose those that it was made with"
        )
    return statistics, hashlib.sha256(data).hexdigest()


def conclude(plan: EvaluationPlan) -> tuple[Findings, dict[str, bytes]]:
    """Everything, and the pictures to it."""
    spec = plan.spec
    found = _compare_with_reference(plan)
    contributions = plan.contributions()
    curves = {name: by_level(plan.levels, each) for name, each in contributions.items()}
    pictures = _pictures(plan, found, curves)
    findings = Findings(
        job_id=plan.keys.job_id,
        features=spec.features.kind,
        features_fingerprint=plan.extractor.fingerprint,
        reference=found.reference,
        num_reference=found.num_reference,
        num_images=spec.num_images,
        repeats=spec.repeats,
        first_seed=spec.first_seed,
        sampler=plan.seeded_sampler.sampler,
        labels=plan.labels,
        classes=spec.classes,
        drift_images=spec.drift_images,
        held_out=spec.held_out,
        weighting=_weighting(plan),
        measures={
            **found.measures,
            **{name: over_levels(contributions[name]) for name in (*_LOSSES, *_GAPS) if name in contributions},
        },
        curves=curves,
        versions=versions(plan.seeded_sampler.device),
        files=tuple(sorted(pictures)),
        ended_at=datetime.now(UTC),
    )
    return findings, pictures


class _ComparedWithReference(NamedTuple):
    """What drawn images are like beside the reference, and what that is."""

    measures: Mapping[str, Measure]
    reference: str
    num_reference: int | None
    nearest: tuple[ImageSet, Nearest] | None  # in which images, of each drawn one; None: there are statistics only


def _compare_with_reference(plan: EvaluationPlan) -> _ComparedWithReference:
    spec, device = plan.spec, plan.seeded_sampler.device
    drawn = plan.drawn_features()
    if spec.reference:
        job_files = JobFiles(plan.store, plan.keys)
        statistics, digest = read_statistics(spec.reference, dimensions=plan.extractor.dimensions, job_files=job_files)
        return _ComparedWithReference(
            compare_with_statistics(spec.features, drawn, statistics, device=device), digest, None, None
        )
    if plan.images is None:
        raise ValueError("reference: there is nothing to measure by")
    real, chosen = plan.real_features(), plan.chosen
    found = compare_with_images(spec.features, drawn, real, device=device)
    nearest = found.nearest if chosen is None else replace(found.nearest, indices=chosen[found.nearest.indices])
    return _ComparedWithReference(found.measures, plan.images.manifest.digest, len(real), (plan.images, nearest))


def _pictures(plan: EvaluationPlan, found: _ComparedWithReference, curves: Mapping[str, Curve]) -> dict[str, bytes]:
    first = range(min(_GRID_IMAGES, plan.spec.num_images))
    pictures = {GRID: grid_png(plan.drawn_images(first), _COLUMNS)}
    if plan.timeline:
        pictures[TIMELINE] = grid_png(plan.timeline_images(), TIMELINE_IMAGES)
    if found.nearest:
        pictures[NEAREST] = _gallery(plan, *found.nearest)
    if curves:
        losses, gaps = (
            {legend: curves[name] for name, legend in legends.items() if name in curves} for legends in (_LOSSES, _GAPS)
        )
        pictures[DRIFT] = draw(losses, gaps)
    return pictures


def _weighting(plan: EvaluationPlan) -> Weighting:
    denoiser = plan.seeded_sampler.denoiser
    match denoiser.preconditioning:
        case EDM(kind=kind):
            return Weighting(kind=kind, sigma_data=denoiser.sigma_data)
        case VP(kind=kind) | VE(kind=kind):
            return Weighting(kind=kind)
        case _:
            assert_never(denoiser.preconditioning)


def _gallery(plan: EvaluationPlan, images: ImageSet, nearest: Nearest) -> bytes:
    """The drawn images that are nearest to training images, and below each row the training images."""
    order = nearest.distances.argsort()[: _GALLERY_ROWS * _COLUMNS].tolist()
    drawn = plan.drawn_images(order)
    real = images.images(nearest.indices[order].numpy().astype(np.int64))
    pairs = zip(torch.split(drawn, _COLUMNS), torch.split(real, _COLUMNS), strict=True)
    return grid_png(torch.cat([row for pair in pairs for row in _even(*pair)]), _COLUMNS)


def _even(*rows: torch.Tensor) -> list[torch.Tensor]:
    """Rows that are short, filled up with white."""
    return [torch.cat([row, row.new_full((_COLUMNS - len(row), *row.shape[1:]), 255)]) for row in rows]
