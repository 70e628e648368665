"""Evaluation jobs: the same numbers on any number of workers, joined to the checkpoint, and compared with chance."""

import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from tests.support.drawn import CPU, TRAINED, Gallery
from workers.contract.data import DatasetManifest, NpzDataset
from workers.contract.document import SpecError
from workers.contract.evaluation import Evaluation, Findings, Weighting
from workers.contract.keys import JobKeys, dataset_features
from workers.contract.records import Reason
from workers.data import import_dataset
from workers.diffusion.denoiser import Denoiser
from workers.evaluation.features import Extractor
from workers.jobs.diagnosis import diagnosed
from workers.sampling.drawing import SeededSampler
from workers.sampling.evaluation_plan import EvaluationPlan
from workers.sampling.evaluation_results import read_statistics
from workers.sampling.pieces import Piece, PieceRunner
from workers.storage import JobFiles
from workers.storage.memory import MemoryStore
from workers.training.watchdog import Watchdog

SMALL = {"num_images": 12, "pass_images": 8, "drift_images": 6, "timeline_steps": [2, 3], "sampler": {"steps": 2}}


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Gallery:
    """Trained on sixty images, so that the features of all are soon computed."""
    folder = tmp_path_factory.mktemp("small")
    pixels = np.random.default_rng(0).integers(0, 256, (60, 16, 16), dtype=np.uint8)
    np.savez(folder / "images.npz", images=pixels)
    return Gallery("small", folder, dataset={"kind": "npz", "path": str(folder / "images.npz"), "channels": 1})


def evaluated(gallery: Gallery, job_id: str, **fields: Any) -> Evaluation:
    gallery.run(job_id, "evaluate", **SMALL | fields)
    return Evaluation.model_validate_json(gallery.result(job_id))


@pytest.fixture(scope="module")
def found(small: Gallery) -> Evaluation:
    return evaluated(small, "found", repeats=2)


def test_every_measure_has_its_name_its_spread_and_what_chance_makes(found: Evaluation) -> None:
    frechet, kernel = found.measures["FD-ENL0"], found.measures["KD-ENL0"]

    assert not any("FID" in name or "KID" in name for name in found.measures)
    assert len(frechet.blocks) == len(kernel.blocks) == 2
    assert frechet.value == pytest.approx(sum(frechet.blocks) / 2)
    assert frechet.standard_error == pytest.approx(abs(frechet.blocks[0] - frechet.blocks[1]) / 2)
    assert frechet.floor is not None
    assert frechet.value > 2 * frechet.floor  # two optimizer steps draw nothing like these images
    assert {"precision", "recall", "density", "coverage", "memorised_share", "memorisation_z"} < set(found.measures)
    assert (found.num_reference, found.num_images, found.repeats, found.labels) == (60, 12, 2, None)


def test_consistency_is_measured_by_noise_level(small: Gallery, found: Evaluation) -> None:
    levels = [level.sigma for level in found.curves["loss"]]

    assert levels == sorted(levels)
    assert len(levels) > 8
    assert found.weighting == Weighting(
        kind="edm", sigma_data=DatasetManifest.model_validate_json(small.store.get(JobKeys(TRAINED).dataset)).sigma_data
    )
    assert {len(curve) for curve in found.curves.values()} == {len(levels)}
    assert all(level.count == 6 for curve in found.curves.values() for level in curve)
    assert found.measures["gap_on_own_paths"].value == pytest.approx(
        np.mean([level.mean for level in found.curves["gap_on_own_paths"]])
    )


def test_errors_come_of_shares_that_are_the_same_images_in_each_evaluation(small: Gallery, found: Evaluation) -> None:
    one = evaluated(small, "one")

    kernel, loss = one.measures["KD-ENL0"], one.measures["loss"]
    assert (len(kernel.shares), found.measures["KD-ENL0"].shares) == (100, ()), "of two blocks those are the shares"
    for measure in (kernel, loss):
        assert np.mean(measure.shares) == pytest.approx(measure.value)
        error = np.std(measure.shares, ddof=1) / len(measure.shares) ** 0.5
        assert measure.standard_error == pytest.approx(error)
    assert loss == found.measures["loss"]
    assert len(loss.shares) == 6


def test_what_was_found_joins_the_checkpoint(small: Gallery, found: Evaluation) -> None:
    joined = small.store.get(JobKeys(TRAINED).evaluation(160, 1, "found"))

    assert Evaluation.model_validate_json(joined) == found
    assert small.store.list(JobKeys("found").pieces) == []


def test_what_was_found_in_another_way_goes_onto_other_curves_of_the_training(
    small: Gallery, found: Evaluation, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[dict[str, float]] = []
    monkeypatch.setattr("workers.jobs.evaluate.add_to_run", lambda *given: told.append(given[3]))

    again = evaluated(small, "alike", repeats=2)
    more = evaluated(small, "more", repeats=2, num_images=14)

    assert (again.num_images, more.num_images) == (found.num_images, 14)
    assert told[0][f"eval/FD-ENL0-{found.num_images}"] == found.measures["FD-ENL0"].value
    assert told[1]["eval/FD-ENL0-14"] == more.measures["FD-ENL0"].value
    assert {name for name in told[0].keys() & told[1].keys() if "/loss" not in name and "/gap_" not in name} == set()


def test_a_measure_that_no_curve_can_be_named_by_is_refused_before_anything_is_kept(
    small: Gallery, found: Evaluation, monkeypatch: pytest.MonkeyPatch
) -> None:
    findings = {name: getattr(found, name) for name in Findings.model_fields}
    misnamed = Findings(**findings | {"measures": {"gap@0.5": found.measures["loss"]}})
    monkeypatch.setattr("workers.jobs.evaluate.conclude", lambda _: (misnamed, {}))

    with pytest.raises(ValueError, match=r"'gap@0\.5' cannot be the name of a curve"):
        evaluated(small, "misnamed")

    assert small.store.list(JobKeys("misnamed").results) == []


def test_there_are_pictures_of_it(small: Gallery, found: Evaluation) -> None:
    sizes = {}
    for name in found.files:
        with Image.open(io.BytesIO(small.file("found", name))) as picture:
            sizes[name] = picture.size

    assert sizes == {
        "drift.png": (1200, 500),
        "grid.png": (400, 100),
        "nearest.png": (400, 200),
        "timeline.png": (400, 100),
    }


def test_the_same_numbers_come_of_any_order_of_work_and_after_an_interruption(
    small: Gallery, found: Evaluation, monkeypatch: pytest.MonkeyPatch
) -> None:
    work_through = PieceRunner.work_through
    monkeypatch.setattr(PieceRunner, "work_through", lambda runner, pieces: work_through(runner, [*reversed(pieces)]))
    left = small.run("other", "evaluate", looks=3, **SMALL, repeats=2)

    again = evaluated(small, "other", repeats=2)

    assert left.stopped
    assert again.measures == found.measures
    assert again.curves == found.curves


def test_features_of_the_training_images_are_computed_once(
    small: Gallery, found: Evaluation, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = dataset_features(found.reference, found.features_fingerprint)
    assert len(small.store.list(folder)) == 1
    monkeypatch.setattr(EvaluationPlan, "_of_real", lambda *_: pytest.fail("computed again"))

    assert evaluated(small, "later").num_reference == 60


@pytest.fixture(scope="module")
def uneven(tmp_path_factory: pytest.TempPathFactory) -> Gallery:
    """Six images of the second class, then thirty of the first."""
    folder = tmp_path_factory.mktemp("uneven")
    pixels = np.random.default_rng(0).integers(0, 256, (36, 16, 16), dtype=np.uint8)
    np.savez(folder / "images.npz", images=pixels, labels=np.repeat([1, 0], [6, 30]))
    network = {"kind": "ddpmpp", "channels": 8, "channel_multipliers": [1], "blocks_per_level": 1}
    dataset = {"kind": "npz", "path": str(folder / "images.npz"), "channels": 1}
    return Gallery("uneven", folder, dataset=dataset, network=network | {"class_conditional": True})


@pytest.mark.parametrize(
    ("classes", "by", "counts"),
    [(None, "as_images", [30, 6]), ([0, 1], "evenly", [18, 18])],
    ids=["as images", "asked"],
)
def test_classes_are_drawn_as_often_as_the_training_images_have_them_unless_they_are_asked_for(
    uneven: Gallery, monkeypatch: pytest.MonkeyPatch, classes: list[int] | None, by: str, counts: list[int]
) -> None:
    drawn: dict[int, int] = {}
    draw = SeededSampler.draw

    def noted(seeded_sampler: SeededSampler, seeds: range) -> Tensor:
        labels = seeded_sampler.labels(seeds)
        if seeds.start >= 100 and labels is not None:
            drawn.update(zip(seeds, labels.tolist(), strict=True))
        return draw(seeded_sampler, seeds)

    monkeypatch.setattr(SeededSampler, "draw", noted)
    found = evaluated(uneven, by, num_images=36, first_seed=100, drift_images=0, timeline_steps=[], classes=classes)

    assert found.labels == by
    assert np.bincount([*drawn.values()]).tolist() == counts
    assert len({drawn[seed] for seed in range(100, 112)}) == 2, "mixed, whatever the order of the images"


def test_one_class_is_measured_beside_its_own_images(uneven: Gallery, monkeypatch: pytest.MonkeyPatch) -> None:
    """Copies of them all are no distance away, and each is shown beside its own."""
    own = torch.from_numpy(np.load(uneven.cache / "images.npz")["images"])[6:, None]
    monkeypatch.setattr(SeededSampler, "draw", lambda _, seeds: own[[seed % len(own) for seed in seeds]])

    found = evaluated(uneven, "one", num_images=len(own), drift_images=0, timeline_steps=[], classes=[0])

    assert (found.num_reference, found.classes, found.labels) == (30, (0,), "evenly")
    assert found.measures["FD-ENL0"].value == pytest.approx(0, abs=1e-9)
    with Image.open(io.BytesIO(uneven.file("one", "nearest.png"))) as picture:
        rows = np.array(picture).reshape(8, 50, -1)
    assert np.array_equal(rows[0::2], rows[1::2])


def test_classes_with_too_few_images_are_refused_before_anything_is_drawn(uneven: Gallery) -> None:
    with pytest.raises(SpecError, match="beside 6 training images of these classes nothing can be measured"):
        uneven.run("few", "evaluate", **SMALL, classes=[1])

    assert uneven.store.list(JobKeys("few").pieces) == []


def test_published_statistics_take_the_features_they_were_made_with(small: Gallery) -> None:
    with pytest.raises(ValueError, match="published statistics are of other features"):
        small.run("never", "evaluate", **SMALL, reference="reference.npz")


def test_statistics_that_never_end_are_not_read() -> None:
    with pytest.raises(SpecError, match=r"^reference: cannot read /dev/zero: it is no regular file; name one$"):
        read_statistics("/dev/zero", dimensions=8, job_files=JobFiles(MemoryStore(), JobKeys("job")))


def test_wrong_statistics_and_weights_are_refused_before_anything_is_drawn(small: Gallery, tmp_path: Path) -> None:
    (tmp_path / "weights.pth").write_bytes(b"not weights")
    inception = {"kind": "inception", "weights": str(tmp_path / "weights.pth"), "sha256": "0" * 64}

    with pytest.raises(SpecError, match=r"features.sha256|features.weights"):
        small.run("refused", "evaluate", **SMALL, features=inception)

    assert small.store.list(JobKeys("refused").pieces) == []


@pytest.mark.parametrize("fields", [{"num_images": 5}, {"drift_images": 1}])
def test_too_few_images_to_measure_are_refused_at_once(small: Gallery, fields: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=r"must be at least 6|a spread takes two images"):
        small.run("few", "evaluate", **SMALL | fields)


def imported(gallery: Gallery, pixels: np.ndarray) -> str:
    """The digest of these images in the store."""
    path = gallery.cache / "others.npz"
    np.savez(path, images=pixels)
    return import_dataset(NpzDataset(kind="npz", path=str(path), channels=1), gallery.store).digest


def test_the_loss_is_measured_at_images_that_were_not_learned_from(small: Gallery, found: Evaluation) -> None:
    seen = np.load(small.cache / "images.npz")["images"]
    same = evaluated(small, "same", held_out=imported(small, seen[::10]))  # the six that are taken of the sixty
    dark = evaluated(small, "dark", held_out=imported(small, seen[:8] // 8))

    for job in (same, dark):
        assert [level.count for level in job.curves["loss_at_held_out"]] == [6] * len(job.curves["loss"])
    assert same.curves["loss_at_held_out"] == same.curves["loss"] == found.curves["loss"]
    assert same.curves["gap_at_held_out"] == same.curves["gap_at_images"]
    assert dark.measures["loss_at_held_out"].value != pytest.approx(dark.measures["loss"].value, rel=0.05)
    assert found.held_out is None
    assert dark.held_out not in {None, same.held_out}
    assert (dark.drift_images, found.drift_images) == (6, 6)
    assert small.store.list(JobKeys("dark").pieces) == []


def test_held_out_images_that_are_none_or_do_not_suit_are_refused(small: Gallery) -> None:
    wide = imported(small, np.arange(4 * 32 * 32, dtype=np.uint8).reshape(4, 32, 32))
    seen = DatasetManifest.model_validate_json(small.store.get(JobKeys(TRAINED).dataset)).digest
    refused = {
        wide: "held_out: its images are 32 pixels wide, of 1 channels, the network takes them 16 pixels wide",
        seen: "held_out: these are the images that the job learned from",
        "0" * 64: "held_out: there is no image set 000",
    }

    for number, (digest, reason) in enumerate(refused.items()):
        with pytest.raises(SpecError, match=reason):
            small.run(f"unsuited{number}", "evaluate", **SMALL, held_out=digest)
    with pytest.raises(ValueError, match="nothing is measured of them with drift_images: 0"):
        small.run("unused", "evaluate", **SMALL | {"drift_images": 0}, held_out=wide)


def test_slow_pieces_are_no_hung_worker(small: Gallery, monkeypatch: pytest.MonkeyPatch) -> None:
    beats: list[int | None] = []
    monkeypatch.setattr(Watchdog, "beat", lambda watchdog: beats.append(watchdog.images_seen))

    evaluated(small, "slow", num_images=8)

    in_one_piece = max(beats.count(done) for done in {*beats})
    assert in_one_piece > 50  # the passes of a piece of the drift


def test_pieces_take_as_many_passes_as_they_say(small: Gallery, monkeypatch: pytest.MonkeyPatch) -> None:
    work_through, images = PieceRunner.work_through, [0]
    promised, taken = {}, {}

    def counted(passes: Callable[..., Tensor]) -> Callable[..., Tensor]:
        def passed(network: object, x: Tensor, *rest: object) -> Tensor:
            images[0] += len(x)
            return passes(network, x, *rest)

        return passed

    def one_by_one(runner: PieceRunner, pieces: Sequence[Piece]) -> bool:
        for piece in pieces:
            before = images[0]
            piece.make()
            taken[piece.key] = (images[0] - before) / piece.num_images
            promised[piece.key] = piece.passes
        return work_through(runner, pieces)

    monkeypatch.setattr(Denoiser, "forward", counted(Denoiser.forward))
    monkeypatch.setattr(Extractor, "__call__", counted(Extractor.__call__))
    monkeypatch.setattr(PieceRunner, "work_through", one_by_one)
    seen = np.load(small.cache / "images.npz")["images"]
    small.run("costs", "evaluate", **SMALL, held_out=imported(small, seen[:8] // 8))

    assert len(taken) == 1 + 2 + 2 + 1 + 1  # features of training images, drawn, timeline, drift there and held out
    assert taken == promised


def test_memory_that_will_not_do_names_what_to_lower() -> None:
    reason, message = diagnosed(MemoryError(), pass_images=64, kind="evaluate")

    assert reason is Reason.OUT_OF_MEMORY
    assert message.startswith("64 images at a time do not fit: lower pass_images")


def test_drift_is_measured_in_float32(small: Gallery) -> None:
    plain = evaluated(small, "plain", num_images=8)
    rough = evaluated(small, "rough", num_images=8, compute=CPU | {"precision": "bfloat16"})

    assert rough.curves == plain.curves


def test_the_timeline_is_of_the_same_latents_whatever_is_evaluated(small: Gallery, found: Evaluation) -> None:
    evaluated(small, "seeds", first_seed=1000, num_images=8)

    assert small.file("seeds", "timeline.png") == small.file("found", "timeline.png")
    assert small.file("seeds", "grid.png") != small.file("found", "grid.png")
