"""Comparison jobs: a training beside the same one without the consistency term."""

import json
from pathlib import Path

import numpy as np
import pytest

from tests.support.drawn import TRAINED, Gallery
from tests.support.trained import tiny_spec, train_job
from workers.contract.comparing import Comparison
from workers.contract.document import SpecError
from workers.contract.keys import JobKeys
from workers.contract.records import TimeBreakdown
from workers.contract.spec import TrainSpec
from workers.tracking.heartbeat import first_word

SMALL = {"num_images": 8, "pass_images": 8, "drift_images": 4, "timeline_steps": [2], "sampler": {"steps": 2}}


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Gallery:
    """The same training twice, once with another learning rate."""
    folder = tmp_path_factory.mktemp("pair")
    gallery = Gallery("pair", folder, dataset=_tiny_images(folder))
    other = tiny_spec(optimizer={"learning_rate": 0.01}, dataset=_tiny_images(folder))
    train_job(other, gallery.store, JobKeys("other"), cache=gallery.cache, every=80)
    return gallery


def _tiny_images(folder: Path) -> dict[str, object]:
    path = folder / "images.npz"
    np.savez(path, images=np.random.default_rng(0).integers(0, 256, (40, 16, 16), dtype=np.uint8))
    return {"kind": "npz", "path": str(path), "channels": 1}


def compare(gallery: Gallery, job_id: str) -> None:
    gallery.run(job_id, "compare", spec={"job_id": TRAINED, "control_job_id": "other"})


def test_two_trainings_without_evaluations_cannot_be_compared(pair: Gallery) -> None:
    with pytest.raises(SpecError, match=f"job_id: {TRAINED} has not been evaluated"):
        compare(pair, "early")


def test_a_comparison_says_in_what_they_differ_and_by_how_much(pair: Gallery) -> None:
    pair.run("first", "evaluate", **SMALL)
    with pytest.raises(SpecError, match="control_job_id: other has not been evaluated at the same images"):
        compare(pair, "half")
    pair.run("second", "evaluate", **SMALL | {"checkpoint": {"job_id": "other"}})

    record = {"job": {"name": "the tiny one", "project": "default", "labels": "{}"}}
    pair.store.put(JobKeys(TRAINED).record, json.dumps(record).encode())

    compare(pair, "whole")

    found = Comparison.model_validate_json(pair.result("whole"))
    assert found.differences == {"optimizer.learning_rate": (0.01, 0.02)}
    assert not found.is_paired
    assert {(each.at, each.images_seen) for each in found.pairs} == {("images", 160)}
    intervals = {each.measure: each.high is not None for each in found.pairs}
    assert intervals.items() >= {"FD-ENL0": False, "KD-ENL0": True, "loss": True, "gap_on_own_paths": True}.items()
    how = found.protocol
    assert (how["num_images"], how["repeats"], how["first_seed"], how["drift_images"]) == (8, 1, 0, 4)
    assert (how["features"], how["num_reference"], how["average"]) == ("lite0", 40, "ema-0.050")
    assert how["sampler"]["steps"] == 2
    assert (found.job.name, found.control.name) == ("the tiny one", None)
    page = pair.file("whole", "report.html").decode()
    assert f"<h1>the tiny one ({TRAINED}) beside other</h1>" in page
    assert page.count("data:image/png;base64,") == 7  # the plot, and three pictures of each
    assert "not all of a difference is due to it" in page


def test_trainings_on_gpus_of_different_models_are_no_pair_for_they_had_other_noise(pair: Gallery) -> None:
    pair.run("again", "evaluate", **SMALL)
    _trained_on(pair, "one", "A100")
    _trained_on(pair, "like", "A100")
    _trained_on(pair, "two", "H100")

    for control in ("like", "two"):
        pair.run(f"beside-{control}", "compare", spec={"job_id": "one", "control_job_id": control})

    alike, apart = (Comparison.model_validate_json(pair.result(f"beside-{control}")) for control in ("like", "two"))
    assert (alike.is_paired, alike.devices, alike.differences) == (True, ("A100",), {})
    assert (apart.is_paired, apart.devices, apart.differences) == (False, ("A100", "H100"), {})
    assert "being drawn on different devices (A100, H100)" in pair.file("beside-two", "report.html").decode()
    assert "different devices" not in pair.file("beside-like", "report.html").decode()


def test_trainings_by_different_code_are_no_pair_and_the_conclusions_begin_with_it(pair: Gallery) -> None:
    pair.run("anew", "evaluate", **SMALL)
    for name, versions in (
        ("ours", {"code": "1a2b"}),
        ("same", {"code": "1a2b"}),
        ("edited", {"code": "3c4d"}),
        ("older", {"torch": "9.1"}),
    ):
        _trained_on(pair, name, "A100", versions=versions)

    found = {}
    for control in ("same", "edited", "older"):
        pair.run(f"code-{control}", "compare", spec={"job_id": "ours", "control_job_id": control})
        found[control] = Comparison.model_validate_json(pair.result(f"code-{control}"))

    assert {name: (each.is_paired, each.codes) for name, each in found.items()} == {
        "same": (True, ("1a2b",)),
        "edited": (False, ("1a2b", "3c4d")),
        "older": (False, ("1a2b", "unknown")),
    }
    said = "They were trained by different code (1a2b, 3c4d): a difference may be due to that."
    assert found["edited"].conclusions[0] == said
    assert said in (page := pair.file("code-edited", "report.html").decode())
    assert "with the same noise." not in page
    assert "different code" not in " ".join(found["same"].conclusions)


@pytest.mark.parametrize(
    ("changes", "is_paired"),
    [({"microbatch_images": 4}, True), ({"precision": "bfloat16"}, False), ({"tf32": False}, False)],
)
def test_the_same_noise_is_not_enough_where_arithmetic_differs(
    pair: Gallery, changes: dict[str, object], is_paired: bool
) -> None:
    name = "-".join(map(str, changes))
    pair.run(f"of-{name}", "evaluate", **SMALL)
    _trained_on(pair, "plain", "A100")
    _trained_on(pair, name, "A100", **changes)

    pair.run(f"beside-{name}", "compare", spec={"job_id": "plain", "control_job_id": name})

    found = Comparison.model_validate_json(pair.result(f"beside-{name}"))
    assert list(found.differences) == [f"compute.{field}" for field in changes]
    assert found.is_paired == is_paired


def _trained_on(
    pair: Gallery, name: str, device: str, *, versions: dict[str, str] | None = None, **compute: object
) -> None:
    """A training like the one that is there, whose workers said so of themselves."""
    store, trained, keys = pair.store, JobKeys(TRAINED), JobKeys(name)
    for key in store.list(trained.root):
        store.put(key.replace(trained.root, keys.root), store.get(key))
    spec = TrainSpec.model_validate_json(store.get(trained.spec))
    on_gpu = spec.model_copy(update={"compute": spec.compute.model_copy(update={"accelerator": "gpu", **compute})})
    store.put(keys.spec, on_gpu.model_dump_json().encode())
    ledger = TimeBreakdown(useful=30.0)
    told = first_word(160, 1, phase="training", images_seen=160, device=device, versions=versions or {}, ledger=ledger)
    store.put(keys.attempt(1).progress, told.model_dump_json().encode())
