"""Weights outside a run: written whole, read without trust, and put into a job of the same denoiser only."""

import json
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import safetensors.torch
import torch
from torch import Tensor

from tests.support.specs import smoke_spec
from tests.support.uploads import UPLOAD, uploaded
from workers.contract.data import DatasetManifest
from workers.contract.document import SpecError
from workers.contract.keys import JobKeys
from workers.contract.model import EDM, VE, VP
from workers.contract.networks import MLP, DDPMpp, NCSNpp
from workers.contract.spec import TrainSpec
from workers.storage import JobFiles
from workers.storage.memory import MemoryStore
from workers.training.state import new_state
from workers.training.weights import (
    check_initial_weights,
    load_initial_weights,
    read_header,
    read_weights,
    save_weights,
)
from workers.training.weights_header import WeightsHeader

CPU = torch.device("cpu")
JOB_FILES = JobFiles(MemoryStore(), JobKeys("job"))
OPTIONS: dict[str, Any] = {"channels": 8, "channel_multipliers": (1,), "blocks_per_level": 1, "class_conditional": True}
HEADER = WeightsHeader(
    network=DDPMpp(kind="ddpmpp", **OPTIONS),
    preconditioning=EDM(kind="edm", sigma_data=0.5),
    sigma_data=0.5,
    image_channels=1,
    resolution=8,
    num_classes=2,
    augmentation_features=9,
    extra={"source": "edm.pkl", "images_seen": "200000000"},
)
IMAGES = DatasetManifest(
    digest="0" * 64,
    num_images=4,
    channels=1,
    resolution=8,
    classes=("cat", "dog"),
    labels=None,
    sigma_data=0.25,
    shards=(),
)


def job(**changes: Any) -> TrainSpec:
    """A job for the denoiser of HEADER."""
    return smoke_spec(
        **{
            "network": {"kind": "ddpmpp"} | OPTIONS | {"dropout": 0.3},
            "augmentation": {"probability": 0.12},
            "preconditioning": {"kind": "edm", "sigma_data": 0.5, "p_mean": -0.4},
            "ema": {"kind": "power", "relative_widths": [0.05, 0.1]},
        }
        | changes
    )


@pytest.fixture
def tensors() -> dict[str, Tensor]:
    """Those of a network that began differently from the job's."""
    return {name: tensor + 1 for name, tensor in network_state(job()).items()}


@pytest.fixture
def path(tmp_path: Path, tensors: dict[str, Tensor]) -> Path:
    save_weights(tmp_path / "weights.safetensors", tensors, HEADER)
    return tmp_path / "weights.safetensors"


def network_state(spec: TrainSpec) -> Mapping[str, Tensor]:
    return new_state(spec, IMAGES, CPU).denoiser.network.state_dict()


def same(left: Mapping[str, Tensor], right: Mapping[str, Tensor]) -> bool:
    return left.keys() == right.keys() and all(torch.equal(tensor, right[name]) for name, tensor in left.items())


@pytest.mark.parametrize("preconditioning", [EDM(kind="edm", sigma_data=0.1), VP(kind="vp"), VE(kind="ve")])
def test_what_was_written_is_read_from_a_path_and_from_a_url(
    tmp_path: Path, preconditioning: EDM | VP | VE, tensors: dict[str, Tensor]
) -> None:
    header, path, bucket = replace(HEADER, preconditioning=preconditioning), tmp_path / "a b.safetensors", str(uuid4())

    save_weights(path, tensors, header)

    MemoryStore.named(bucket).put("some/prefix/w.safetensors", path.read_bytes())
    for location in (path, str(path), path.as_uri(), f"memory://{bucket}/some/prefix/w.safetensors"):
        found, read = read_weights(location)
        assert (found, read_header(location)) == (header, header)
        assert same(read, tensors)


def test_others_find_the_description_in_the_header_of_the_file(path: Path) -> None:
    with safetensors.safe_open(path, "pt") as file:
        metadata = file.metadata()

    assert json.loads(metadata.pop("network"))["channels"] == 8
    assert json.loads(metadata.pop("preconditioning"))["kind"] == "edm"
    assert metadata == {
        "format": "cdm-train weights",
        "sigma_data": "0.5",
        "image_channels": "1",
        "resolution": "8",
        "num_classes": "2",
        "augmentation_features": "9",
        "source": "edm.pkl",
        "images_seen": "200000000",
    }


def test_a_write_that_fails_leaves_what_was_there(path: Path) -> None:
    before, shared = path.read_bytes(), torch.zeros(3)

    with pytest.raises(RuntimeError, match="share memory"):
        save_weights(path, {"a": shared, "b": shared}, HEADER)

    assert path.read_bytes() == before
    assert [*path.parent.iterdir()] == [path]


def test_a_place_that_takes_nothing_is_said_as_one(path: Path, tensors: dict[str, Tensor]) -> None:
    with pytest.raises(OSError, match=r"cannot write .*gone/w\.safetensors"):
        save_weights(path.parent / "gone" / "w.safetensors", tensors, HEADER)


def test_of_a_damaged_file_no_tensor_is_read(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])

    assert read_header(path) == HEADER
    with pytest.raises(SpecError, match=r"weights.safetensors is damaged, copy or convert it again"):
        read_weights(path)


@pytest.mark.parametrize("content", [b"", b"PK", b"\x80\x04K\x01.", b"\xff" * 64, b"\x02" + bytes(7) + b"[]"])
def test_a_file_that_is_not_safetensors_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "other").write_bytes(content)

    for read in (read_header, read_weights):
        with pytest.raises(SpecError, match="other is not a whole safetensors file"):
            read(tmp_path / "other")


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        (None, "is not a weights file: snapshots of EDM and CDM become one by `cdm convert`"),
        ({"format": "pt"}, "is not a weights file"),
        (HEADER.to_metadata() | {"resolution": "wide"}, "is not as this version writes it: invalid literal"),
        (HEADER.to_metadata() | {"network": '{"kind": "dit"}'}, "is not as this version writes it: "),
        ({"format": "cdm-train weights"}, "is not as this version writes it: it lacks network"),
    ],
)
def test_the_weights_of_others_are_refused(tmp_path: Path, metadata: dict[str, str] | None, message: str) -> None:
    safetensors.torch.save_file({"a": torch.zeros(1)}, tmp_path / "other", metadata)

    with pytest.raises(SpecError, match=message):
        read_weights(tmp_path / "other")


def test_a_pipe_is_not_waited_for_and_a_device_not_read_to_its_end(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")

    for place in (tmp_path / "pipe", Path("/dev/zero")):
        with pytest.raises(SpecError, match=f"cannot read {place}: it is no regular file; name one"):
            read_weights(place)


def test_what_is_not_there_is_named_and_a_url_of_another_kind_refused(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"there is no .*/missing"):
        read_weights(tmp_path / "missing")
    with pytest.raises(SpecError, match="there is no memory://nobody/missing"):
        read_weights("memory://nobody/missing")
    with pytest.raises(SpecError, match=r"cannot read .*: Is a directory"):
        read_weights(tmp_path)
    with pytest.raises(SpecError, match="use s3://"):
        read_weights("https://example.test/weights.safetensors")


@pytest.mark.parametrize("place", ["path", UPLOAD, "https://example.org/edm.safetensors"])
def test_initial_weights_end_up_in_the_network_and_in_all_averages(
    path: Path, tensors: dict[str, Tensor], place: str
) -> None:
    store = uploaded(path.read_bytes(), part_bytes=100_000)
    store.put(JOB_FILES.keys.brought(place), path.read_bytes())
    spec, job_files = job(initial_weights=str(path) if place == "path" else place), replace(JOB_FILES, store=store)
    state = new_state(spec, IMAGES, CPU)

    check_initial_weights(spec, IMAGES, job_files)
    load_initial_weights(state, spec, job_files)

    assert len(state.averages) == 2
    for denoiser in (state.denoiser, *state.averages):
        assert same(denoiser.network.state_dict(), tensors)


def test_a_job_without_initial_weights_keeps_those_of_its_seed() -> None:
    spec = job()
    state = new_state(spec, IMAGES, CPU)

    check_initial_weights(spec, IMAGES, JOB_FILES)
    load_initial_weights(state, spec, JOB_FILES)

    assert same(state.denoiser.network.state_dict(), network_state(spec))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"network": NCSNpp(kind="ncsnpp", **OPTIONS)},
            "network.kind: .* made with ncsnpp, the job has ddpmpp; set it",
        ),
        ({"network": MLP(kind="mlp")}, "network.kind: .* made with mlp, the job has ddpmpp; set it to mlp"),
        (
            {"network": DDPMpp(kind="ddpmpp", **OPTIONS | {"channels": 16})},
            "network.channels: initial_weights were made with 16, the job has 8; set it to 16, or choose other",
        ),
        (
            {"network": DDPMpp(kind="ddpmpp", **OPTIONS | {"channel_multipliers": (1, 2)})},
            r"network.channel_multipliers: .* made with \[1, 2\], the job has \[1\]",
        ),
        ({"augmentation_features": 0}, "augmentation: .* 0 augmentation labels, the job has 9; set it to null"),
        ({"preconditioning": VP(kind="vp")}, "preconditioning.kind: .* made with vp, the job has edm"),
        ({"sigma_data": 0.25}, "preconditioning.sigma_data: .* made with 0.25, the job has 0.5; set it to 0.25"),
    ],
)
def test_weights_of_another_denoiser_are_refused_by_field(
    path: Path, tensors: dict[str, Tensor], changes: dict[str, Any], message: str
) -> None:
    save_weights(path, tensors, replace(HEADER, **changes))
    spec = job(initial_weights=str(path))
    state = new_state(spec, IMAGES, CPU)

    with pytest.raises(SpecError, match=f"^{message}"):
        check_initial_weights(spec, IMAGES, JOB_FILES)
    with pytest.raises(SpecError, match=f"^{message}"):
        load_initial_weights(state, spec, JOB_FILES)

    assert same(state.denoiser.network.state_dict(), network_state(spec))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"image_channels": 3}, "dataset.channels: initial_weights were made with 3, the job has 1; set it to 3"),
        ({"resolution": 16}, "dataset.resolution: initial_weights were made with 16, the job has 8; set it to 16"),
    ],
)
def test_weights_for_other_images_are_refused_by_field(
    path: Path, tensors: dict[str, Tensor], changes: dict[str, Any], message: str
) -> None:
    save_weights(path, tensors, replace(HEADER, **changes))

    with pytest.raises(SpecError, match=f"^{message}"):
        check_initial_weights(job(initial_weights=str(path)), IMAGES, JOB_FILES)


def test_a_measured_sigma_data_is_compared_too(path: Path) -> None:
    spec = job(initial_weights=str(path), preconditioning={"kind": "edm"})

    with pytest.raises(SpecError, match=r"sigma_data: .* made with 0.5, the job has 0.25; set it to 0.5"):
        check_initial_weights(spec, IMAGES, JOB_FILES)


def test_tensors_that_belie_their_header_change_nothing(path: Path, tensors: dict[str, Tensor]) -> None:
    tensors["map_layer0.bias"] = torch.zeros(3)
    del tensors["map_layer1.bias"]
    save_weights(path, tensors | {"more": torch.zeros(1)}, HEADER)
    spec = job(initial_weights=str(path))
    state = new_state(spec, IMAGES, CPU)

    reasons = r"map_layer1.bias is missing; more is unexpected; map_layer0.bias has shape \[3\], expected \[32\]"
    with pytest.raises(SpecError, match=f"are of another network: {reasons}"):
        load_initial_weights(state, spec, JOB_FILES)

    assert same(state.denoiser.network.state_dict(), network_state(spec))


def test_weights_that_cannot_be_read_are_a_matter_of_the_field(tmp_path: Path) -> None:
    spec = job(initial_weights=str(tmp_path / "missing"))

    with pytest.raises(SpecError, match=r"^initial_weights: there is no .*/missing"):
        check_initial_weights(spec, IMAGES, JOB_FILES)
