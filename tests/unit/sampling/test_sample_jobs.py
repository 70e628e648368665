"""Sample jobs: an image is a function of its seed, and nothing of what was drawn is lost or drawn twice."""

import io
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.support.drawn import TRAINED, Gallery
from tests.support.trained import tiny_spec
from tests.support.uploads import UPLOAD, uploaded
from workers.contract.data import ZipDataset
from workers.contract.document import SpecError
from workers.contract.jobs import parse_job
from workers.contract.keys import MANIFEST, JobKeys
from workers.contract.sampling import Sampled, SampleSpec, Subject
from workers.data import import_dataset
from workers.sampling.drawing import SeededSampler, check_drawing
from workers.storage.memory import MemoryStore
from workers.training.checkpoint import DamagedCheckpointError


def drawn(gallery: Gallery, job_id: str, **fields: Any) -> np.ndarray:
    gallery.run(job_id, "sample", archive="npz", **fields)
    return gallery.images(job_id)


@pytest.mark.parametrize(
    "sampler",
    [
        {"method": "heun", "steps": 3},
        {"method": "ancestral", "steps": 4},
        {"method": "euler", "steps": 4, "churn": {"sigma_min": 0}},
    ],
)
def test_an_image_is_a_function_of_its_seed_whatever_is_drawn_beside_it(
    gallery: Gallery, sampler: dict[str, Any]
) -> None:
    name = sampler["method"]
    together = drawn(gallery, f"{name}-8", num_images=8, pass_images=8, sampler=sampler)
    in_parts = drawn(gallery, f"{name}-3", num_images=8, pass_images=3, sampler=sampler)
    alone = drawn(gallery, f"{name}-1", num_images=1, first_seed=5, sampler=sampler)

    # Convolutions add up in another order for another batch size: at most one step of 8 bits.
    assert np.abs(together.astype(int) - in_parts).max() <= 1
    assert np.abs(together[5].astype(int) - alone[0]).max() <= 1
    assert len({image.tobytes() for image in together}) == 8


def test_the_class_of_an_image_is_a_function_of_its_seed_too(classes: Gallery) -> None:
    classes.run("zip", "sample", num_images=6, first_seed=3, classes=[1, 7], sampler={"steps": 2})

    with zipfile.ZipFile(io.BytesIO(classes.file("zip", "images.zip"))) as archive:
        labels = json.loads(archive.read("dataset.json"))["labels"]
    assert labels == [[f"000000/{seed:06d}.png", (1, 7)[seed % 2]] for seed in range(3, 9)]
    assert Sampled.model_validate_json(classes.result("zip")).classes == (1, 7)


def test_guidance_reaches_what_is_drawn(classes: Gallery) -> None:
    plain = drawn(classes, "plain", num_images=2, classes=[3], sampler={"steps": 2})
    guided = drawn(classes, "guided", num_images=2, classes=[3], sampler={"steps": 2, "guidance": 4.0})

    assert not np.array_equal(plain, guided)


def test_a_zip_of_drawn_images_can_be_imported_again(classes: Gallery, tmp_path: Path) -> None:
    classes.run("again", "sample", num_images=12, sampler={"steps": 2})
    (tmp_path / "drawn.zip").write_bytes(classes.file("again", "images.zip"))

    manifest = import_dataset(ZipDataset(kind="zip", path=str(tmp_path / "drawn.zip"), channels=1), MemoryStore())

    assert (manifest.num_images, manifest.num_classes) == (12, 10)


@pytest.mark.parametrize(
    "sampler", [{"method": "heun", "steps": 2}, {"method": "ancestral", "steps": 2}], ids=["ode", "sde"]
)
def test_a_job_that_left_goes_on_where_it_was_and_draws_what_it_would_have(
    gallery: Gallery, monkeypatch: pytest.MonkeyPatch, sampler: dict[str, Any]
) -> None:
    job = f"left-{sampler['method']}"
    fields = {"num_images": 8, "pass_images": 3, "sampler": sampler, "archive": "npz"}
    gallery.run(f"never-{job}", "sample", **fields)
    made: list[range] = []
    draw = SeededSampler.draw
    monkeypatch.setattr(
        SeededSampler, "draw", lambda seeded_sampler, seeds: made.append(seeds) or draw(seeded_sampler, seeds)
    )

    left = gallery.run(job, "sample", looks=2, **fields)
    ended = gallery.run(job, "sample", **fields)
    again = gallery.run(job, "sample", **fields)

    assert left.stopped
    assert left.images_seen == 6
    assert (ended.images_seen, again.images_seen, ended.stopped) == (8, 8, False)
    assert made == [range(0, 3), range(3, 6), range(6, 8)]
    assert gallery.store.list(JobKeys(job).pieces) == []
    assert np.array_equal(gallery.images(job), gallery.images(f"never-{job}"))


def test_the_grid_is_a_picture_of_the_first_images(gallery: Gallery) -> None:
    images = drawn(gallery, "grid", num_images=10, sampler={"steps": 2})

    with Image.open(io.BytesIO(gallery.file("grid", "grid.png"))) as grid:
        pixels = np.asarray(grid)
    assert pixels.shape == (2 * 50, 8 * 50)
    assert np.array_equal(pixels[0:48:3, 50:98:3], images[1, :, :, 0])
    assert (pixels[50:, 100:] == 255).all()


def test_what_was_drawn_from_is_settled_once_though_training_goes_on(gallery: Gallery) -> None:
    gallery.run("settled", "sample", num_images=1, sampler={"steps": 2})

    sampled = Sampled.model_validate_json(gallery.result("settled"))
    assert (sampled.checkpoint.images_seen, sampled.checkpoint.average) == (160, "ema-0.050")
    assert sampled.checkpoint_seal
    assert sampled.sampler.steps == 2


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"checkpoint": {"job_id": "nobody"}}, "checkpoint.job_id: no training job nobody has begun"),
        (
            {"checkpoint": {"job_id": TRAINED, "images_seen": 7}},
            f"checkpoint.images_seen: {TRAINED} has no checkpoint at 7 images; it has them at 80 and 160",
        ),
        (
            {"checkpoint": {"job_id": TRAINED, "average": "ema-0.3"}},
            f"checkpoint.average: {TRAINED} keeps no ema-0.3; choose ema-0.050 or ema-0.100 or network",
        ),
        ({"classes": [1]}, "classes: trained trains without classes; leave it out"),
        ({"sampler": {"guidance": 2.0}}, "sampler.guidance: trained never trains without classes"),
    ],
)
def test_what_cannot_be_drawn_is_refused_before_anything_is(
    gallery: Gallery, fields: dict[str, Any], message: str
) -> None:
    with pytest.raises(SpecError, match=message):
        gallery.run("refused", "sample", **fields)

    assert gallery.store.list(JobKeys("refused").results) == []


@pytest.mark.parametrize(("end", "value"), [("sigma_min", 0.01), ("sigma_max", 120.0)])
def test_a_sampler_that_leaves_the_trained_noise_levels_is_refused(end: str, value: float) -> None:
    spec = tiny_spec(preconditioning={"kind": "ve"}, sampler={"sigma_min": 0.02})
    drawing = parse_job(
        {"kind": "sample", "checkpoint": {"job_id": TRAINED}, "sampler": {"sigma_min": 0.02} | {end: value}}
    )

    assert isinstance(drawing, SampleSpec)
    with pytest.raises(SpecError, match=f"sampler.{end}: must lie between 0.02 and 100, the noise levels"):
        check_drawing(drawing, Subject.of(TRAINED, spec, None))


def test_classes_that_there_are_not_are_refused(classes: Gallery) -> None:
    with pytest.raises(SpecError, match="classes: there is no class 10; the last is 9"):
        classes.run("refused", "sample", classes=[3, 10])


def test_weights_that_are_not_those_written_are_not_drawn_from(tmp_path: Path) -> None:
    gallery = Gallery("damaged", tmp_path)
    key = JobKeys(TRAINED).checkpoint(160, 1) + "ema-0.050.safetensors"
    gallery.store.put(key, gallery.store.get(key)[:-1] + b"!")

    with pytest.raises(DamagedCheckpointError, match=r"ema-0.050.safetensors"):
        gallery.run("damaged", "sample")


def test_a_checkpoint_that_is_gone_since_it_was_settled_is_as_good_as_damaged(tmp_path: Path) -> None:
    gallery = Gallery("gone", tmp_path)
    gallery.run("gone", "sample", looks=0)
    gallery.store.delete(JobKeys(TRAINED).checkpoint(160, 1) + MANIFEST)

    with pytest.raises(DamagedCheckpointError, match=MANIFEST):
        gallery.run("gone", "sample")


def test_known_pixels_stay_as_they_are_and_the_others_are_drawn(gallery: Gallery, tmp_path: Path) -> None:
    image = np.random.default_rng(0).integers(0, 256, (16, 16), dtype=np.uint8)
    mask = np.zeros((16, 16), dtype=np.uint8)
    mask[:, :8] = 255
    Image.fromarray(image).save(tmp_path / "image.png")
    Image.fromarray(mask).save(tmp_path / "mask.png")
    fields = {"image": str(tmp_path / "image.png"), "mask": str(tmp_path / "mask.png")}

    images = drawn(gallery, "known", num_images=2, inpainting=fields, sampler={"method": "ancestral", "steps": 3})

    assert (images[:, :, :8, 0] == image[:, :8]).all()
    assert not np.array_equal(images[0, :, 8:], images[1, :, 8:])
    assert not np.array_equal(images[0, :, 8:, 0], image[:, 8:])


def test_known_pixels_are_read_from_an_upload_and_as_the_web_had_them(gallery: Gallery, tmp_path: Path) -> None:
    """And what was brought of the web goes with the pieces."""
    pixels = np.random.default_rng(0).integers(0, 256, (16, 16), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "image.png")
    Image.fromarray(np.full((16, 16), 255, dtype=np.uint8)).save(tmp_path / "mask.png")
    url, keys = "https://example.org/image.png", JobKeys("by_url")
    uploaded((tmp_path / "mask.png").read_bytes(), into=gallery.store, part_bytes=50)
    gallery.store.put(keys.brought(url), (tmp_path / "image.png").read_bytes())

    images = drawn(gallery, keys.job_id, num_images=1, inpainting={"image": url, "mask": UPLOAD})

    assert (images[0, :, :, 0] == pixels).all()
    assert gallery.store.list(keys.pieces) == []


def test_known_pixels_of_another_size_are_refused(gallery: Gallery, tmp_path: Path) -> None:
    Image.fromarray(np.zeros((8, 8), dtype=np.uint8)).save(tmp_path / "small.png")
    (tmp_path / "text.png").write_bytes(b"no image")
    small = str(tmp_path / "small.png")

    with pytest.raises(SpecError, match=r"inpainting.image: .* is 8 x 8 pixels, the images are 16 x 16"):
        gallery.run("small", "sample", inpainting={"image": small, "mask": small})
    with pytest.raises(SpecError, match=r"inpainting.image: .*text.png is not an image"):
        gallery.run("text", "sample", inpainting={"image": str(tmp_path / "text.png"), "mask": small})
    with pytest.raises(SpecError, match=r"inpainting.image: there is no /nowhere"):
        gallery.run("none", "sample", inpainting={"image": "/nowhere", "mask": small})
    with pytest.raises(SpecError, match=r"inpainting.image: cannot read /dev/zero: it is no regular file"):
        gallery.run("endless", "sample", inpainting={"image": "/dev/zero", "mask": small})


def test_an_attempt_that_was_superseded_leaves_and_writes_nothing_more(gallery: Gallery) -> None:
    keys = JobKeys("fenced")
    gallery.store.put(keys.attempt(2).claim, b"{}")

    left = gallery.run("fenced", "sample", num_images=4, pass_images=2, sampler={"steps": 2})

    assert left.stopped
    assert gallery.store.list(keys.pieces) == []
    assert gallery.store.list(keys.results) == []


def test_the_checkpoint_need_not_stay_once_it_was_drawn_from(gallery: Gallery) -> None:
    trained = JobKeys(TRAINED)
    for pin in (trained.pin(160, 1, "pinned"), trained.pin(160, 1, "other"), trained.pin(80, 1)):
        gallery.store.put(pin, b"")

    gallery.run("pinned", "sample", num_images=1, sampler={"steps": 2})

    assert gallery.store.list(trained.pins) == sorted([trained.pin(80, 1), trained.pin(160, 1, "other")])


def test_pieces_that_a_crash_has_left_behind_the_result_go_with_the_next_attempt(gallery: Gallery) -> None:
    fields = {"num_images": 2, "sampler": {"steps": 2}}
    gallery.run("crashed", "sample", **fields)
    gallery.store.put(JobKeys("crashed").piece("images-left"), b"...")

    again = gallery.run("crashed", "sample", **fields)

    assert (again.stopped, again.images_seen) == (False, 2)
    assert gallery.store.list(JobKeys("crashed").pieces) == []


def test_a_checkpoint_that_a_later_attempt_wrote_again_is_not_mixed_with_the_one_it_was_settled_on(
    tmp_path: Path,
) -> None:
    gallery = Gallery("attempts", tmp_path)
    fields = {"num_images": 6, "pass_images": 2, "sampler": {"steps": 2}}
    gallery.run("both", "sample", looks=1, **fields)
    keys = JobKeys(TRAINED)
    for key in gallery.store.list(keys.checkpoint(160, 1)):
        gallery.store.put(key.replace("160-0001", "160-0002"), gallery.store.get(key))

    gallery.run("both", "sample", **fields)

    assert Sampled.model_validate_json(gallery.result("both")).checkpoint.attempt == 1
