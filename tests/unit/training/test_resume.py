"""A run that was interrupted is the run that was asked for."""

import json
import re
import threading
import tracemalloc
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic_core import from_json, to_json

from tests.support.specs import smoke_spec
from workers.contract.keys import MANIFEST, JobKeys
from workers.contract.records import CheckpointFile, CheckpointManifest
from workers.contract.spec import TrainSpec
from workers.data import ImageSet, import_dataset
from workers.storage import ahead
from workers.storage.job_folder import committed_checkpoints
from workers.storage.memory import MemoryStore
from workers.training.checkpoint import (
    DamagedCheckpointError,
    FencedError,
    ForeignCheckpointError,
    read_file,
    restore,
    restore_latest,
    save_checkpoint,
)
from workers.training.snapshot import Snapshot
from workers.training.state import TrainState, new_state
from workers.training.step import Trainer
from workers.training.world import World

CPU = torch.device("cpu")
KEYS = JobKeys("job_1")


EMAS = {
    "exponential": {"kind": "exponential", "halflife_images": 200},
    "power": {"kind": "power", "relative_widths": [0.05, 0.1]},
}


@pytest.fixture
def spec() -> TrainSpec:
    return smoke_spec(duration_images=64)


@pytest.fixture
def images(spec: TrainSpec, tmp_path: Path) -> ImageSet:
    store = MemoryStore()
    return ImageSet.open(import_dataset(spec.dataset, store).digest, store=store, cache=tmp_path)


def trained(state: TrainState, images: ImageSet, spec: TrainSpec, *, until: int) -> list[float]:
    """Train until so many images have been seen; the DSM loss of every step."""
    losses = []
    for step in Trainer(state, images, spec, World.alone(CPU)).steps():
        losses.append(float(step.terms.dsm.mean()))
        if step.images_seen >= until:
            break
    return losses


def contents(state: TrainState) -> dict[str, bytes]:
    return {name: bytes(data) for name, data in Snapshot.of(state).files()}


@pytest.mark.parametrize("interrupted_at", [16, 48])
@pytest.mark.parametrize("ema", EMAS.values(), ids=EMAS)
def test_a_resumed_run_is_bit_identical_to_an_uninterrupted_one(
    images: ImageSet, ema: dict[str, Any], interrupted_at: int
) -> None:
    spec = smoke_spec(duration_images=64, ema=ema)
    whole = new_state(spec, images.manifest, CPU)
    expected = trained(whole, images, spec, until=64)

    store, first = MemoryStore(), new_state(spec, images.manifest, CPU)
    losses = trained(first, images, spec, until=interrupted_at)
    save_checkpoint(Snapshot.of(first), store, KEYS, attempt=1, spec_sha256="0" * 64)
    second = new_state(spec, images.manifest, CPU)
    restore_latest(second, store, KEYS)
    losses += trained(second, images, spec, until=64)

    assert losses == expected
    files = contents(second)
    assert files == contents(whole)  # weights, averages, moments, step counts
    assert len(set(files.values())) == len(files)


@pytest.mark.parametrize(
    ("ema", "names"),
    [("exponential", ["ema.safetensors"]), ("power", ["ema-0.050.safetensors", "ema-0.100.safetensors"])],
)
def test_a_checkpoint_has_a_file_for_each_average(images: ImageSet, ema: str, names: list[str]) -> None:
    store, state = MemoryStore(), new_state(smoke_spec(ema=EMAS[ema]), images.manifest, CPU)

    manifest = save_checkpoint(Snapshot.of(state), store, KEYS, attempt=1, spec_sha256="0" * 64)

    others = ["network.safetensors", "optimizer.safetensors", "state.json"]
    assert sorted(file.name for file in manifest.files) == sorted(names + others)


def test_a_checkpoint_that_never_had_one_of_the_averages_is_not_passed_over(images: ImageSet) -> None:
    """Unless nothing proves that its manifest is what was written."""
    store, kept = MemoryStore(), new_state(smoke_spec(ema=EMAS["exponential"]), images.manifest, CPU)
    save_checkpoint(Snapshot.of(kept), store, KEYS, attempt=1, spec_sha256="0" * 64)
    state = new_state(smoke_spec(ema=EMAS["power"]), images.manifest, CPU)

    with pytest.raises(ForeignCheckpointError, match=r"lists no ema-0.050.safetensors and no ema-0.100.safetensors"):
        restore_latest(state, store, KEYS)

    [folder] = committed_checkpoints(store, KEYS)
    store.put(folder + MANIFEST, unsealed(store.get(folder + MANIFEST)))
    assert restore_latest(state, store, KEYS) is None


def unsealed(manifest: bytes) -> bytes:
    """As it was before manifests had seals."""
    document = json.loads(manifest)
    del document["seal"]
    return json.dumps(document, indent=2).encode()


def test_a_restored_optimizer_keeps_the_memory_format_of_its_moments(images: ImageSet, spec: TrainSpec) -> None:
    """That of a GPU, whose fused Adam is slow where the two differ."""
    store, state = MemoryStore(), new_state(spec, images.manifest, CPU)
    trained(state, images, spec, until=16)
    save_checkpoint(Snapshot.of(state), store, KEYS, attempt=1, spec_sha256="0" * 64)
    restored = new_state(spec, images.manifest, CPU)
    kernels = [each for each in restored.denoiser.parameters() if each.ndim == 4 and each.shape[1] > 1]
    moments = [restored.optimizer.state[kernel] for kernel in kernels]
    for each in moments:
        each["exp_avg"] = each["exp_avg"].to(memory_format=torch.channels_last)

    restore_latest(restored, store, KEYS)

    assert kernels
    assert all(each["exp_avg"].is_contiguous(memory_format=torch.channels_last) for each in moments)
    assert contents(restored) == contents(state)


def test_a_damaged_checkpoint_is_passed_over_for_the_one_before_it(images: ImageSet, spec: TrainSpec) -> None:
    store, state = MemoryStore(), new_state(spec, images.manifest, CPU)
    trained(state, images, spec, until=16)
    save_checkpoint(Snapshot.of(state), store, KEYS, attempt=1, spec_sha256="0" * 64)
    trained(state, images, spec, until=48)
    save_checkpoint(Snapshot.of(state), store, KEYS, attempt=1, spec_sha256="0" * 64)
    newest = committed_checkpoints(store, KEYS)[-1]
    flipped = bytearray(store.get(newest + "ema.safetensors"))
    flipped[-1] ^= 1

    restored = {}
    for damage in ("bit flipped", "file missing", "manifest torn"):
        match damage:
            case "bit flipped":
                store.put(newest + "ema.safetensors", bytes(flipped))
            case "file missing":
                store.delete(newest + "ema.safetensors")
            case "manifest torn":
                store.put(newest + MANIFEST, store.get(newest + MANIFEST)[:100])
        state = new_state(spec, images.manifest, CPU)
        restore_latest(state, store, KEYS)
        restored[damage] = state.images_seen

    assert restored == {"bit flipped": 16, "file missing": 16, "manifest torn": 16}


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[MemoryStore, TrainState]:
    """Two checkpoints, at 0 and at 16 images, and a state to restore them into."""
    spec = smoke_spec(duration_images=64)
    store = MemoryStore()
    digest = import_dataset(spec.dataset, store).digest
    images = ImageSet.open(digest, store=store, cache=tmp_path_factory.mktemp("images"))
    state = new_state(spec, images.manifest, CPU)
    for until in (0, 16):
        if until:
            trained(state, images, spec, until=until)
        save_checkpoint(Snapshot.of(state), store, KEYS, attempt=1, spec_sha256="0" * 64)
    return store, state


@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_any_byte_flipped_and_any_file_cut_is_refused_by_name_and_the_checkpoint_before_is_used(
    written: tuple[MemoryStore, TrainState], data: st.DataObject
) -> None:
    store, state = written
    folder = committed_checkpoints(store, KEYS)[-1]
    key = data.draw(st.sampled_from(store.list(folder)))
    whole = store.get(key)
    place, mask = data.draw(st.integers(0, len(whole) - 1)), data.draw(st.integers(0, 255))
    store.put(key, whole[:place] + bytes([whole[place] ^ mask]) + whole[place + 1 :] if mask else whole[:place])
    try:
        with pytest.raises(DamagedCheckpointError, match=re.escape(key.removeprefix(folder))):
            restore(state, store, folder)

        assert restore_latest(state, store, KEYS) == committed_checkpoints(store, KEYS)[0]
        assert state.images_seen == 0
    finally:
        store.put(key, whole)


def in_file(store: MemoryStore, data: bytes) -> CheckpointFile:
    store.put("file", data)
    return CheckpointFile(name="file", num_bytes=len(data), sha256=sha256(data).hexdigest())


def test_a_file_comes_in_several_streams_at_a_time_and_in_its_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ahead, "_PIECE_BYTES", 3)
    together, asked = threading.Barrier(ahead.STORE_STREAMS), list[int]()

    class Meeting(MemoryStore):
        """Gives out eight pieces at once, and none before that."""

        def part(self, key: str, offset: int, size: int) -> bytes:
            asked.append(offset)
            together.wait(10)
            return super().part(key, offset, size)

    store, data = Meeting(), bytes(range(3 * ahead.STORE_STREAMS - 1))

    assert read_file(store, "", in_file(store, data)) == data
    assert sorted(asked) == [*range(0, len(data), 3)]


def test_memory_holds_a_file_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ahead, "_PIECE_BYTES", 1 << 14)
    store, data = MemoryStore(), bytes(4 << 20)
    file = in_file(store, data)

    tracemalloc.start()
    try:
        assert read_file(store, "", file) == data
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert peak < 1.5 * len(data)


@pytest.mark.parametrize("there", [b"", b"abc", b"abxde", b"abcdef"])
def test_a_file_that_is_not_as_long_as_it_was_or_not_the_same_is_named_with_its_size(there: bytes) -> None:
    store = MemoryStore()
    file = in_file(store, b"abcde")
    store.put("file", there)

    with pytest.raises(DamagedCheckpointError, match=f"^file has {len(there)} bytes that are not those written$"):
        read_file(store, "", file)


def test_a_checkpoint_from_before_manifests_were_sealed_is_used(images: ImageSet, spec: TrainSpec) -> None:
    store, state = MemoryStore(), new_state(spec, images.manifest, CPU)
    state.images_seen = 16
    save_checkpoint(Snapshot.of(state), store, KEYS, attempt=1, spec_sha256="0" * 64)
    [folder] = committed_checkpoints(store, KEYS)
    without_seal = unsealed(store.get(folder + MANIFEST))
    store.put(folder + MANIFEST, without_seal)

    assert restore_latest(new_state(spec, images.manifest, CPU), store, KEYS) == folder

    store.put(folder + MANIFEST, without_seal.replace(b'"attempt": 1', b'"attempt":  1'))
    assert restore_latest(new_state(spec, images.manifest, CPU), store, KEYS) is None


def test_a_checkpoint_of_a_later_release_that_says_more_is_used(images: ImageSet, spec: TrainSpec) -> None:
    store, state = MemoryStore(), new_state(spec, images.manifest, CPU)
    state.images_seen = 16
    save_checkpoint(Snapshot.of(state), store, KEYS, attempt=1, spec_sha256="0" * 64)
    [folder] = committed_checkpoints(store, KEYS)
    document = from_json(store.get(folder + MANIFEST)) | {"novel": 1.5}
    del document["seal"]
    document["seal"] = sha256(to_json(document)).hexdigest()
    sealed = to_json(document, indent=2)
    store.put(folder + MANIFEST, sealed)

    assert restore_latest(new_state(spec, images.manifest, CPU), store, KEYS) == folder

    for damaged in (sealed.replace(b"1.5", b"2.5"), sealed.replace(b'"seal"', b'"sial"')):
        store.put(folder + MANIFEST, damaged)
        assert restore_latest(new_state(spec, images.manifest, CPU), store, KEYS) is None


def test_a_checkpoint_of_another_release_that_cannot_be_read_is_not_passed_over(
    images: ImageSet, spec: TrainSpec
) -> None:
    store, state = MemoryStore(), new_state(spec, images.manifest, CPU)
    save_checkpoint(Snapshot.of(state), store, KEYS, attempt=1, spec_sha256="0" * 64)
    state.images_seen = 16
    save_checkpoint(Snapshot.of(state), store, KEYS, attempt=1, spec_sha256="0" * 64)
    newest = committed_checkpoints(store, KEYS)[-1]
    document = from_json(store.get(newest + MANIFEST))
    del document["seal"]
    document["parts"] = document.pop("files")
    document["seal"] = sha256(to_json(document)).hexdigest()
    store.put(newest + MANIFEST, to_json(document, indent=2))

    with pytest.raises(ForeignCheckpointError, match="files"):
        restore_latest(new_state(spec, images.manifest, CPU), store, KEYS)


def test_a_checkpoint_of_other_tensors_is_not_passed_over(images: ImageSet, spec: TrainSpec) -> None:
    store, state = MemoryStore(), new_state(spec, images.manifest, CPU)
    save_checkpoint(Snapshot.of(state), store, KEYS, attempt=1, spec_sha256="0" * 64)
    wider = spec.model_copy(update={"network": spec.network.model_copy(update={"channels": 2 * spec.network.channels})})

    with pytest.raises(ForeignCheckpointError, match="is of another network"):
        restore_latest(new_state(wider, images.manifest, CPU), store, KEYS)


def test_a_checkpoint_without_a_manifest_does_not_exist(images: ImageSet, spec: TrainSpec) -> None:
    store, state = MemoryStore(), new_state(spec, images.manifest, CPU)
    save_checkpoint(Snapshot.of(state), store, KEYS, attempt=1, spec_sha256="0" * 64)
    store.delete(committed_checkpoints(store, KEYS)[0] + MANIFEST)

    assert restore_latest(state, store, KEYS) is None


def test_a_superseded_attempt_can_commit_nothing(images: ImageSet, spec: TrainSpec) -> None:
    store, state = MemoryStore(), new_state(spec, images.manifest, CPU)
    store.put(KEYS.attempt(2).claim, b"{}")

    with pytest.raises(FencedError):
        save_checkpoint(Snapshot.of(state), store, KEYS, attempt=1, spec_sha256="0" * 64)

    assert committed_checkpoints(store, KEYS) == []
    assert save_checkpoint(Snapshot.of(state), store, KEYS, attempt=2, spec_sha256="0" * 64).attempt == 2


def test_a_manifest_lists_every_file_with_its_size_and_digest(images: ImageSet, spec: TrainSpec) -> None:
    store, state = MemoryStore(), new_state(spec, images.manifest, CPU)
    save_checkpoint(Snapshot.of(state), store, KEYS, attempt=1, spec_sha256="0" * 64)
    folder = committed_checkpoints(store, KEYS)[0]

    manifest = CheckpointManifest.model_validate_json(store.get(folder + MANIFEST))

    listed = {folder + file.name for file in manifest.files}
    assert listed | {folder + MANIFEST} == set(store.list(folder))
    assert all(len(store.get(folder + file.name)) == file.num_bytes for file in manifest.files)
    assert manifest.images_seen == 0
    assert json.loads(store.get(folder + "state.json")) == {"sigma_data": images.manifest.sigma_data}


@pytest.mark.parametrize("estimator", ["symmetric", "target"])
def test_training_lowers_the_loss(images: ImageSet, estimator: str) -> None:
    spec = smoke_spec(duration_images=1600, objective={"consistency": {"estimator": estimator}})
    state = new_state(spec, images.manifest, CPU)

    losses = trained(state, images, spec, until=1600)

    assert sum(losses[-20:]) < 0.75 * sum(losses[:20])
