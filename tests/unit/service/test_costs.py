"""Estimates come from like jobs, and say so."""

from typing import Any

import pytest

from service.jobs.plans import cost_key, estimate
from service.jobs.records import JobRecord
from tests.support.jobs import SPEC, job, progress
from workers.contract.jobs import AnySpec, parse_job
from workers.contract.merging import merged
from workers.contract.spec import TrainSpec, parse_spec


def changed(changes: dict[str, Any]) -> TrainSpec:
    return parse_spec(merged(SPEC.model_dump(mode="json"), changes))


def seen(rate: float, *, device: str | None = "H100", memory: int | None = None) -> JobRecord:
    return job(progress=progress(images_per_second=rate, device=device, peak_memory_bytes=memory))


@pytest.mark.parametrize(
    "changes",
    [
        {"seed": 7},
        {"duration_images": 640},
        {"optimizer": {"learning_rate": 0.1}},
        {"cadence": {"checkpoint_images": 320}},
    ],
)
def test_what_does_not_change_the_speed_of_a_step_does_not_change_what_a_job_is_like(changes: dict[str, Any]) -> None:
    assert cost_key(changed(changes)) == cost_key(SPEC)


@pytest.mark.parametrize(
    "changes",
    [
        {"network": {"channels": 16}},
        {"batch_images": 32},
        {"compute": {"workers": 1}},
        {"compute": {"precision": "bfloat16"}},
        {"objective": {"consistency": None}},
        {"objective": {"consistency": {"batch_fraction": 0.5}}},
    ],
)
def test_what_changes_the_speed_of_a_step_makes_another_kind_of_job(changes: dict[str, Any]) -> None:
    assert cost_key(changed(changes)) != cost_key(SPEC)


def test_where_the_images_lie_does_not_matter() -> None:
    here, there = (changed({"dataset": {"kind": "zip", "path": f"/{place}.zip", "resolution": 32}}) for place in "ab")

    assert cost_key(here) == cost_key(there)


def drawing(kind: str, **fields: Any) -> AnySpec:
    return parse_job({"kind": kind, "checkpoint": {"job_id": "job_1", "images_seen": 160}} | fields)


@pytest.mark.parametrize(
    "changes",
    [
        {"first_seed": 7},
        {"num_images": 640},
        {"checkpoint": {"job_id": "job_1", "images_seen": 320}},
        {"features": {"kind": "inception", "weights": "/elsewhere/fid.pth", "sha256": "0" * 64}},
    ],
)
def test_another_checkpoint_of_a_training_and_more_images_cost_the_same_each(changes: dict[str, Any]) -> None:
    features = {"kind": "inception", "weights": "/here/fid.pth", "sha256": "0" * 64}

    assert cost_key(drawing("evaluate", features=features) if "features" in changes else drawing("evaluate")) == (
        cost_key(drawing("evaluate", **changes))
    )


@pytest.mark.parametrize(
    "changes",
    [
        {"checkpoint": {"job_id": "job_2", "images_seen": 160}},
        {"sampler": {"steps": 40}},
        {"compute": {"workers": 2}},
        {"pass_images": 32},
    ],
)
def test_another_network_and_another_way_to_draw_cost_otherwise(changes: dict[str, Any]) -> None:
    keys = {cost_key(drawing(kind, **each)) for kind in ("sample", "evaluate") for each in ({}, changes)}

    assert len(keys) == 4


def test_of_an_import_nobody_knows_how_many_images_it_has() -> None:
    spec = parse_job({"kind": "import", "dataset": {"kind": "builtin", "name": "fashion16"}})

    found = estimate(spec, [seen(10.0)])

    assert (found.images_per_second, found.seconds) == (10.0, None)


@pytest.mark.parametrize("like", [[], [job()], [seen(0.0)]])
def test_without_a_like_job_there_are_no_figures_and_it_says_so(like: list[JobRecord]) -> None:
    found = estimate(SPEC, like)

    assert (found.images_per_second, found.seconds, found.peak_memory_bytes) == (None, None, None)
    assert "no like job" in found.basis


def test_an_estimate_is_the_median_of_what_was_seen_and_the_most_memory() -> None:
    found = estimate(SPEC, [seen(10.0, memory=5), seen(40.0, memory=7), seen(20.0)])

    assert (found.images_per_second, found.seconds, found.peak_memory_bytes) == (20.0, 16.0, 7)
    assert "the latest 3 like jobs, 2 x H100" in found.basis


def test_figures_of_another_device_are_not_mixed_in() -> None:
    found = estimate(SPEC, [seen(10.0, device="H100"), seen(1.0, device="T4"), seen(10.0, device="H100")])

    assert found.images_per_second == 10.0
    assert "the latest 2 like jobs" in found.basis


def test_a_single_like_job_is_called_one() -> None:
    assert "1 like job, 2 x unknown device" in estimate(SPEC, [seen(10.0, device=None)]).basis
