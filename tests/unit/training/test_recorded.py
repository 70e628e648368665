"""Rows of metrics in the store: what they say, and that they are there before the checkpoint that they lead to."""

from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import torch
from structlog.testing import capture_logs

from tests.support.trained import tiny_spec
from workers.contract.data import DatasetManifest
from workers.contract.keys import MANIFEST, JobKeys
from workers.contract.records import Progress
from workers.contract.spec import TrainSpec
from workers.data import import_dataset
from workers.storage.job_folder import committed_checkpoints
from workers.storage.memory import MemoryStore
from workers.tracking import reporter
from workers.tracking.journal import recorded_rows
from workers.tracking.reporter import Reporter
from workers.training import backend
from workers.training.backend import versions
from workers.training.checkpoint import read_manifest, restore_latest
from workers.training.loop import run_training
from workers.training.run import Ending, Run, RunRequests
from workers.training.samples import draw_grid
from workers.training.state import new_state
from workers.training.world import World

KEYS = JobKeys("job")


def run(spec: TrainSpec, store: MemoryStore, store_url: str, cache: Path, *, attempt: int = 1) -> Ending:
    manifest = import_dataset(spec.dataset, store)
    store.put(KEYS.spec, spec.model_dump_json().encode())
    store.put(KEYS.dataset, manifest.model_dump_json().encode())
    world = World.alone(torch.device("cpu"))
    return run_training(
        Run(store_url, "job", attempt, str(cache)), world, poll_requests=lambda: RunRequests(), on_hang=lambda _: None
    )


def test_no_checkpoint_is_committed_before_the_rows_that_lead_to_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reporter, "GATHER_SECONDS", 3600.0)  # unless somebody waits for them
    store, put, led_to = MemoryStore.named("recorded"), MemoryStore.put, dict[int, int]()

    def watched(self: MemoryStore, key: str, data: bytes) -> None:
        if key.startswith(KEYS.checkpoints) and key.endswith(f"/{MANIFEST}"):
            images_seen, _ = KEYS.of_checkpoint(key.removesuffix(f"/{MANIFEST}"))
            led_to[images_seen] = max(recorded_rows(store, KEYS, after=0), default=0)
        put(self, key, data)

    monkeypatch.setattr(MemoryStore, "put", watched)

    spec = tiny_spec(cadence={"log_images": 16, "checkpoint_images": 64})
    ending = run(spec, store, "memory://recorded", tmp_path)

    assert ending.images_seen == 160
    assert led_to.keys() >= {64, 160}
    assert all(row >= images_seen for images_seen, row in led_to.items())


def test_the_document_is_fetched_once_and_checkpoints_say_which_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, get, fetched = MemoryStore.named("fetched"), MemoryStore.get, list[str]()

    def watched(self: MemoryStore, key: str) -> bytes:
        fetched.append(key)
        return get(self, key)

    monkeypatch.setattr(MemoryStore, "get", watched)

    run(tiny_spec(duration_images=16), store, "memory://fetched", tmp_path)

    assert fetched.count(KEYS.spec) == 1
    [folder] = committed_checkpoints(store, KEYS)
    assert read_manifest(store, folder).spec_sha256 == sha256(store.get(KEYS.spec)).hexdigest()


def test_what_it_ran_on_is_in_its_progress_and_the_memory_that_it_took_a_curve(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: dict[str, dict[str, str]] = {}

    class Watched(Reporter):
        def __init__(self, *arguments: Any, params: dict[str, str], tags: dict[str, str], **fields: Any) -> None:
            told.update(params=params, tags=tags)
            super().__init__(*arguments, params=params, tags=tags, **fields)

    monkeypatch.setattr("workers.training.recorder.Reporter", Watched)
    store = MemoryStore.named("versions")

    run(tiny_spec(duration_images=16), store, "memory://versions", tmp_path)

    progress = Progress.model_validate_json(store.get(KEYS.attempt(1).progress))
    assert progress.versions == versions(torch.device("cpu"))
    assert progress.versions.keys() == {"torch", "cdm-train", "code", "python", "device"}
    assert told["tags"].items() >= {"cdm.torch": torch.__version__, "cdm.device": progress.device}.items()
    assert told["params"]["num_parameters"] == str(progress.num_parameters)
    assert told["params"].keys() > {"seed", "dataset.digest", "sigma_data"}
    assert [row["memory/peak_bytes"] for row in recorded_rows(store, KEYS, after=0).values()] == [
        progress.peak_memory_bytes
    ]


def test_the_picture_beside_a_checkpoint_is_drawn_from_its_average_of_the_weights(tmp_path: Path) -> None:
    store = MemoryStore.named("pictures")
    spec = tiny_spec(sampler={"steps": 2})

    run(spec, store, "memory://pictures", tmp_path)

    manifest = DatasetManifest.model_validate_json(store.get(KEYS.dataset))
    state = new_state(spec, manifest, torch.device("cpu"))
    restore_latest(state, store, KEYS)
    of_average, of_network = (
        draw_grid(denoiser, spec, manifest, World.alone(torch.device("cpu")))
        for denoiser in (state.ema, state.denoiser)
    )
    assert store.get(KEYS.sample(160)) == of_average
    assert of_average != of_network


def test_a_row_has_the_learning_rate_that_its_last_step_was_taken_with(tmp_path: Path) -> None:
    store = MemoryStore.named("rates")
    spec = tiny_spec(optimizer={"learning_rate": 0.02, "warmup_images": 64}, duration_images=64)

    run(spec, store, "memory://rates", tmp_path)

    rates = {seen: row["optimizer/learning_rate"] for seen, row in recorded_rows(store, KEYS, after=0).items()}
    assert rates == pytest.approx({16: 0.005, 32: 0.01, 48: 0.015, 64: 0.02})


@pytest.fixture
def change_code(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """Has what computes from now on another digest."""

    def change(digest: str) -> None:
        monkeypatch.setattr(backend, "_digest_of", lambda _: digest)
        backend.code_digest.cache_clear()

    yield change
    backend.code_digest.cache_clear()


def test_who_goes_on_by_other_code_says_so_in_its_certificate_and_its_log(
    tmp_path: Path, change_code: Callable[[str], None]
) -> None:
    store, told = MemoryStore.named("code"), list[Progress]()

    for attempt, code in enumerate(("first", "first", "second"), start=1):
        change_code(code)
        with capture_logs() as logs:
            run(tiny_spec(duration_images=16 * attempt), store, "memory://code", tmp_path, attempt=attempt)
        told.append(Progress.model_validate_json(store.get(KEYS.attempt(attempt).progress)))
        warnings = [line for line in logs if line["event"] == "code.changed"]

    assert [each.versions["code"] for each in told] == ["first", "first", "second"]
    assert [each.resume and each.resume.other_code for each in told] == [None, None, "first"]
    assert warnings == [
        {"event": "code.changed", "before": "first", "now": "second", "images_seen": 32, "log_level": "warning"}
    ]
    codes = [read_manifest(store, folder).code for folder in committed_checkpoints(store, KEYS)]
    assert codes == ["first", "first", "second"]
