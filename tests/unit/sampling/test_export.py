"""Export: a folder that stands for itself, and the lines of Python that draw from it."""

import csv
import io
import json
from collections.abc import Iterator
from copy import copy as copy_of
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.support.command import Command
from tests.support.drawn import TRAINED, Gallery
from tests.support.findings import evaluation_of
from workers.contract.jobs import parse_job
from workers.contract.keys import JobKeys
from workers.contract.model import Sampler
from workers.contract.records import CheckpointRef
from workers.contract.sampling import ResolvedCheckpoint
from workers.jobs.failures import UsageError
from workers.sampling.handover import open_model
from workers.sampling.network import Trained, load_checkpoint
from workers.storage.memory import MemoryStore
from workers.tools.export import chosen, export
from workers.tracking.events import Metrics
from workers.tracking.heartbeat import first_word
from workers.tracking.journal import Journal

SAMPLER = Sampler(steps=2)


def folder_of(gallery: Gallery) -> str:
    return f"memory://{gallery.name}/jobs/{TRAINED}"


def exported(gallery: Gallery, output: Path, **wanted: Any) -> ResolvedCheckpoint:
    choice = chosen(folder_of(gallery), output, **wanted)
    export(choice, output)
    return choice.source


def test_an_exported_model_draws_what_a_sample_job_draws(gallery: Gallery, tmp_path: Path) -> None:
    gallery.run("sampled", "sample", num_images=3, archive="npz", sampler={"steps": 2})
    exported(gallery, tmp_path / "out")

    pixels = open_model(tmp_path / "out/weights.safetensors", sampler=SAMPLER).draw(range(3))

    with np.load(io.BytesIO(gallery.file("sampled", "images.npz"))) as arrays:
        drawn = torch.from_numpy(arrays["images"]).permute(0, 3, 1, 2)
    assert (pixels.int() - drawn.int()).abs().max() <= 1


def test_one_of_a_network_with_classes_knows_them(classes: Gallery, tmp_path: Path) -> None:
    exported(classes, tmp_path / "out", average="network")

    model = open_model(tmp_path / "out/weights.safetensors", sampler=SAMPLER, classes=(3,))

    assert open_model(tmp_path / "out/weights.safetensors").classes == tuple(range(10))
    assert model.labels(range(2)).tolist() == [3, 3]  # type: ignore[union-attr] # it has classes
    assert model.draw(range(2)).shape == (2, 1, 16, 16)


def test_the_folder_says_how_the_model_came_about(gallery: Gallery, tmp_path: Path) -> None:
    source = exported(gallery, tmp_path / "out", images_seen=80, average="ema-0.100")

    assert (source.images_seen, source.average) == (80, "ema-0.100")
    assert parse_job(json.loads((tmp_path / "out/spec.json").read_text())) == parse_job(
        json.loads(gallery.store.get(JobKeys(TRAINED).spec))
    )
    assert [each["images_seen"] for each in json.loads((tmp_path / "out/checkpoints.json").read_text())] == [80, 160]
    assert json.loads((tmp_path / "out/checkpoint.json").read_text())["images_seen"] == 80
    with (tmp_path / "out/metrics.csv").open() as file:
        assert csv.DictReader(file).fieldnames == ["images_seen"]  # this one was trained without a journal
    assert any(line.startswith("torch==") for line in (tmp_path / "out/requirements.txt").read_text().splitlines())
    assert "average `ema-0.100`" in (tmp_path / "out/README.md").read_text()


@pytest.fixture
def copy(gallery: Gallery) -> Iterator[Gallery]:
    """One that a test may add to."""
    other = copy_of(gallery)
    other.name = "copy"
    other.store = MemoryStore.named(other.name)
    for key in gallery.store.list(""):
        other.store.put(key, gallery.store.get(key))
    yield other
    for key in other.store.list(""):
        other.store.delete(key)


def test_the_pictures_are_those_of_the_checkpoint_or_there_are_none(copy: Gallery, tmp_path: Path) -> None:
    for seen in (80, 120, 200):
        copy.store.put(JobKeys(TRAINED).sample(seen), f"PNG of {seen}".encode())

    exported(copy, tmp_path / "with", images_seen=80, average="network")
    exported(copy, tmp_path / "without", images_seen=160)

    assert (tmp_path / "with/samples.png").read_bytes() == b"PNG of 80"
    card = (tmp_path / "with/README.md").read_text()
    assert "weights are the average `network`" in card
    assert "`samples.png` was drawn at this checkpoint from the average `ema-0.050`." in card
    assert not (tmp_path / "without/samples.png").exists()
    assert "samples.png" not in (tmp_path / "without/README.md").read_text()


def test_a_fork_says_where_it_goes_on_from(gallery: Gallery, copy: Gallery, tmp_path: Path) -> None:
    origin = CheckpointRef(job_id="parent", images_seen=5_120_000, attempt=2)
    copy.store.put(JobKeys(TRAINED).origin, origin.model_dump_json().encode())

    exported(gallery, tmp_path / "alone")
    exported(copy, tmp_path / "fork")

    assert CheckpointRef.model_validate_json((tmp_path / "fork/origin.json").read_text()) == origin
    assert "It goes on from parent at 5,120,000 images (`origin.json`)" in (tmp_path / "fork/README.md").read_text()
    assert not (tmp_path / "alone/origin.json").exists()
    assert "\n`spec.json` trains it again on the image set" in (tmp_path / "alone/README.md").read_text()


def test_it_says_what_it_was_trained_with(gallery: Gallery, copy: Gallery, tmp_path: Path) -> None:
    told = first_word(160, 1, versions={"torch": "9.1", "device": "A100"})
    copy.store.put(JobKeys(TRAINED).attempt(1).progress, told.model_dump_json().encode())
    copy.store.put(JobKeys(TRAINED).attempt(2).claim, b"{}")

    source = exported(copy, tmp_path / "out")
    exported(gallery, tmp_path / "older")

    assert json.loads((tmp_path / "out/attempts.json").read_text()) == [
        {"attempt": 1, "versions": {"torch": "9.1", "device": "A100"}},
        {"attempt": 2, "versions": {}},
    ]
    card, older = ((tmp_path / name / "README.md").read_text() for name in ("out", "older"))
    assert " Trained with torch 9.1, device A100." in card
    assert "Trained with" not in older
    denoiser, _ = load_checkpoint(copy.store, Trained.of(copy.store, TRAINED), source)
    count = sum(parameter.numel() for parameter in denoiser.network.parameters())
    assert f"`ddpmpp` of {count:,} parameters" in card


def test_its_card_says_how_each_figure_was_measured(copy: Gallery, tmp_path: Path) -> None:
    measured = {"FD-ENL0": {"value": 12.3456, "blocks": [12.0, 12.7], "standard_error": 0.21}, "recall": {"value": 0.5}}
    for by, sampler in (("a", Sampler(steps=18)), ("b", Sampler(steps=40))):
        found = evaluation_of(160, job_id=by, measures=measured, repeats=2, sampler=sampler)
        copy.store.put(JobKeys(TRAINED).evaluation(160, 1, by), found.model_dump_json().encode())

    exported(copy, tmp_path / "out")

    assert (tmp_path / "out/README.md").read_text().splitlines()[-6:] == [
        "| measure | value +- standard error | smallest repeat | images | average | sampler.steps |",
        "| --- | --- | --- | --- | --- | --- |",
        "| FD-ENL0 | 12.35 +- 0.21 | 12 | 50 x 2 | ema | 18 |",
        "| recall | 0.5 |  | 50 x 2 | ema | 18 |",
        "| FD-ENL0 | 12.35 +- 0.21 | 12 | 50 x 2 | ema | 40 |",
        "| recall | 0.5 |  | 50 x 2 | ema | 40 |",
    ]


def test_its_curves_are_all_that_was_measured(copy: Gallery, tmp_path: Path) -> None:
    steps, seconds = {"loss/dsm": 0.5}, {"time/checkpoint_seconds": 2.0}
    for attempt, told in (
        (1, [Metrics(16, 1.0, steps), Metrics(16, 4.0, seconds), Metrics(20, 5.0, seconds)]),
        (2, [Metrics(16, 7.0, {"loss/dsm": 0.25})]),
    ):
        Journal(copy.store, JobKeys(TRAINED), attempt).deliver([*told])

    exported(copy, tmp_path / "out")

    assert (tmp_path / "out/metrics.csv").read_text().splitlines() == [
        "images_seen,loss/dsm,time,time/checkpoint_seconds",
        "16,0.25,7.0,2.0",
        "20,,5.0,2.0",
    ]


def test_the_lines_in_its_card_run(gallery: Gallery, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    exported(gallery, tmp_path / "out")
    lines = [line[4:] for line in (tmp_path / "out/README.md").read_text().splitlines() if line.startswith("    ")]
    monkeypatch.chdir(tmp_path / "out")
    names: dict[str, torch.Tensor] = {}

    exec("\n".join(lines), names)  # noqa: S102 - our own

    assert len(lines) == 3
    assert names["pixels"].shape == (16, 1, 16, 16)


def test_nothing_is_written_over_and_nothing_is_left_of_what_cannot_be(gallery: Gallery, tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("precious")

    with pytest.raises(UsageError, match="is there and not empty"):
        exported(gallery, tmp_path)
    with pytest.raises(UsageError, match=rf"^{TRAINED} has no checkpoint at 7 images; it has them at \d"):
        exported(gallery, tmp_path / "out", images_seen=7)

    assert not (tmp_path / "out").exists()


def test_a_choice_says_which_object_has_the_weights_and_writes_nothing(gallery: Gallery, tmp_path: Path) -> None:
    choice = chosen(folder_of(gallery), tmp_path / "out", images_seen=80, average="ema-0.100")

    assert choice.weights == f"{JobKeys(TRAINED).checkpoint(80, 1)}ema-0.100.safetensors"
    assert not (tmp_path / "out").exists()


@pytest.fixture
def cdm(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Command:
    """One that knows of no service."""
    monkeypatch.setenv("CDM_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return Command(monkeypatch, capsys)


def test_the_folder_of_a_job_is_exported_without_a_service(gallery: Gallery, cdm: Command, tmp_path: Path) -> None:
    answer = cdm("export", f"{folder_of(gallery)}/", "--at", "80", "--output", str(tmp_path / "out"))

    assert (answer.code, answer.err) == (0, "")
    assert answer.out == f"{tmp_path / 'out'}: ema-0.050 at 80 images; see its README.md\n"
    assert (tmp_path / "out/weights.safetensors").exists()


def test_where_the_exported_model_is_may_be_said_in_json(gallery: Gallery, cdm: Command, tmp_path: Path) -> None:
    answer = cdm("export", folder_of(gallery), "--output", str(tmp_path / "out"), "--json")

    assert answer.document == {"path": str(tmp_path / "out"), "registered": None}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--at", "7"), f"error: {TRAINED} has no checkpoint at 7 images; it has them at "),
        (
            ("--best", "eval/KD-ENL0-1k"),
            "error: --best asks a service, which knows the evaluations: ",
        ),
        (("--register", "faces"), "error: --register: set MLFLOW_TRACKING_URI to the MLflow whose registry it is"),
    ],
)
def test_what_cannot_be_had_of_a_folder_is_refused_in_one_line(
    gallery: Gallery, cdm: Command, tmp_path: Path, options: tuple[str, ...], words: str
) -> None:
    answer = cdm("export", folder_of(gallery), "--output", str(tmp_path / "out"), *options)

    assert (answer.code, answer.out, answer.err.count("\n")) == (2, "", 1)
    assert answer.err.startswith(words)
    assert not (tmp_path / "out").exists()


def test_damaged_weights_are_one_line(copy: Gallery, cdm: Command, tmp_path: Path) -> None:
    weights = chosen(folder_of(copy), tmp_path / "out").weights
    copy.store.put(weights, copy.store.get(weights)[:-1])

    answer = cdm("export", folder_of(copy), "--output", str(tmp_path / "out"))

    assert (answer.code, answer.out, answer.err.count("\n")) == (2, "", 1)
    assert answer.err.startswith("error: ")
