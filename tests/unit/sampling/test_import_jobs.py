"""Import jobs: what has become of somebody's images, and how many bad ones are too many."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.support.drawn import Gallery
from workers.contract.data import ImportedDataset
from workers.contract.importing import ImportReport
from workers.contract.keys import JobKeys
from workers.data import DatasetError, import_dataset
from workers.training.run import Ending


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three cats and two dogs of 8 x 8; one more cat that is no image, and a text."""
    for number, name in enumerate(["cat/1.png", "cat/2.png", "cat/3.png", "dog/4.png", "dog/5.png"]):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.fromarray(np.full((8, 8, 3), 20 * number, dtype=np.uint8)).save(tmp_path / name)
    (tmp_path / "cat/0.png").write_bytes(b"no image at all")
    (tmp_path / "readme.txt").write_text("of mine")
    return tmp_path


def run(gallery: Gallery, job_id: str, folder: Path, *, skip: int, looks: int | None = None) -> Ending:
    dataset = {"kind": "folder", "path": str(folder)}
    return gallery.run(job_id, "import", dataset=dataset, max_faulty_images=skip, looks=looks)


def test_images_that_cannot_be_used_are_left_out_and_named(gallery: Gallery, folder: Path) -> None:
    ending = run(gallery, "pets", folder, skip=1)

    report = ImportReport.model_validate_json(gallery.result("pets"))
    assert ending.images_seen == 5
    assert report.images_per_class == {"cat": 3, "dog": 2}
    assert (report.num_left_out, [*report.left_out]) == (1, ["cat/0.png"])
    assert report.num_ignored_files == 1
    assert report.manifest.sigma_data > 0


def test_one_more_is_too_many_and_nothing_is_imported(gallery: Gallery, folder: Path) -> None:
    before = gallery.store.list("datasets/")

    with pytest.raises(DatasetError, match=r"cat/0\.png"):
        run(gallery, "strict", folder, skip=0)

    assert gallery.store.list("datasets/") == before
    assert gallery.store.list(JobKeys("strict").results) == []


def test_what_was_imported_is_trained_on_by_its_digest(gallery: Gallery, folder: Path) -> None:
    run(gallery, "digest", folder, skip=1)
    manifest = ImportReport.model_validate_json(gallery.result("digest")).manifest

    assert import_dataset(ImportedDataset(kind="imported", digest=manifest.digest), gallery.store) == manifest
    with pytest.raises(DatasetError, match=r"dataset\.digest: the store has no image set 0000"):
        import_dataset(ImportedDataset(kind="imported", digest="0" * 64), gallery.store)


def test_the_preview_shows_the_images(gallery: Gallery, folder: Path) -> None:
    run(gallery, "preview", folder, skip=1)

    with Image.open(io.BytesIO(gallery.file("preview", "preview.png"))) as picture:
        pixels = np.asarray(picture)
    assert pixels.shape == (50, 8 * 50, 3)
    assert [pixels[5, 50 * place + 5, 0] for place in range(6)] == [0, 20, 40, 60, 80, 255]


def test_no_copy_of_the_images_stays_where_they_were_imported(gallery: Gallery, folder: Path) -> None:
    run(gallery, "no-copy", folder, skip=1)

    digest = ImportReport.model_validate_json(gallery.result("no-copy")).manifest.digest
    assert digest not in {path.name for path in gallery.cache.iterdir()}


def test_an_import_leaves_when_asked_to_and_keeps_nothing(gallery: Gallery, folder: Path) -> None:
    ending = run(gallery, "asked", folder, skip=1, looks=0)

    assert (ending.stopped, ending.images_seen) == (True, 0)
    assert gallery.store.list(JobKeys("asked").results) == []


def test_images_of_other_sizes_are_never_left_out(gallery: Gallery, folder: Path) -> None:
    Image.fromarray(np.zeros((9, 9, 3), dtype=np.uint8)).save(folder / "dog/6.png")

    with pytest.raises(DatasetError, match=r"is 9 x 9 pixels, most are 8 x 8"):
        run(gallery, "sizes", folder, skip=5)
