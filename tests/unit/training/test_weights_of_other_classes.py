"""Initial weights for other classes than the job's, or for none: only what tells the network of them begins anew."""

from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from structlog.testing import capture_logs
from torch import Tensor

from tests.support.small_networks import PUBLISHED, SIZE, config, small_network
from tests.support.specs import smoke_spec
from workers.contract.data import DatasetManifest
from workers.contract.document import SpecError
from workers.contract.keys import JobKeys
from workers.contract.model import EDM
from workers.contract.spec import TrainSpec
from workers.diffusion.conditions import UNCONDITIONAL, Conditions
from workers.networks import Network
from workers.storage import JobFiles
from workers.storage.memory import MemoryStore
from workers.training.state import TrainState, new_state
from workers.training.weights import (
    WeightsHeader,
    check_initial_weights,
    load_initial_weights,
    save_weights,
)

CPU = torch.device("cpu")
JOB_FILES = JobFiles(MemoryStore(), JobKeys("job"))
IMAGES = DatasetManifest(
    digest="0" * 64,
    num_images=4,
    channels=1,
    resolution=SIZE,
    classes=("cat", "dog"),
    labels=None,
    sigma_data=0.25,
    shards=(),
)


def start_of(
    folder: Path, kind: str, network: Network, made_with: int, *, class_conditional: bool = True
) -> tuple[TrainSpec, TrainState]:
    """A job for two classes or none, and weights of so many."""
    features = 9 if kind in PUBLISHED else 0
    header = WeightsHeader(
        network=config(kind, class_conditional=made_with > 0),
        preconditioning=EDM(kind="edm", sigma_data=0.5),
        sigma_data=0.5,
        image_channels=1,
        resolution=SIZE,
        num_classes=made_with,
        augmentation_features=features,
    )
    save_weights(folder / "weights.safetensors", network.state_dict(), header)
    spec = smoke_spec(
        network=config(kind, class_conditional=class_conditional).model_dump(),
        augmentation={"probability": 0.12} if features else None,
        preconditioning={"kind": "edm", "sigma_data": 0.5},
        initial_weights=str(folder / "weights.safetensors"),
    )
    return spec, new_state(spec, IMAGES, CPU)


def same(left: Mapping[str, Tensor], right: Mapping[str, Tensor]) -> bool:
    return left.keys() == right.keys() and all(torch.equal(tensor, right[name]) for name, tensor in left.items())


@pytest.mark.parametrize("kind", PUBLISHED)
@pytest.mark.parametrize("made_with", [0, 5])
def test_weights_of_other_classes_start_as_a_network_that_is_told_none(
    tmp_path: Path, kind: str, made_with: int
) -> None:
    network = small_network(kind, image_channels=1, num_classes=made_with, class_conditional=made_with > 0)
    spec, state = start_of(tmp_path, kind, network, made_with)

    check_initial_weights(spec, IMAGES, JOB_FILES)
    with capture_logs() as logs:
        load_initial_weights(state, spec, JOB_FILES)

    x, c_noise = torch.randn(2, 1, SIZE, SIZE), torch.randn(2)
    labels = Conditions(labels=torch.tensor([0, 1]))
    for denoiser in (state.denoiser, *state.averages):
        started = denoiser.network.eval()
        assert torch.equal(started(x, c_noise, labels), network.eval()(x, c_noise, UNCONDITIONAL))
    assert [(each["event"], each["made_with"]) for each in logs] == [("initial_weights.other_classes", made_with)]


@pytest.mark.parametrize(("made_with", "class_conditional"), [(0, True), (5, True), (5, False)])
def test_in_edm2_label_weights_begin_as_initialised(tmp_path: Path, made_with: int, class_conditional: bool) -> None:
    network = small_network("edm2", image_channels=1, num_classes=made_with, class_conditional=made_with > 0)
    spec, state = start_of(tmp_path, "edm2", network, made_with, class_conditional=class_conditional)
    before = dict(state.denoiser.network.state_dict())
    own = {name: tensor.clone() for name, tensor in before.items() if name.startswith("embed_label.")}

    check_initial_weights(spec, IMAGES, JOB_FILES)
    load_initial_weights(state, spec, JOB_FILES)

    after, given = state.denoiser.network.state_dict(), network.state_dict()
    assert same({name: after[name] for name in own}, own)
    assert bool(own) == class_conditional
    assert all(torch.equal(after[name], given[name]) for name in after if name not in own)


@pytest.mark.parametrize(
    ("made_with", "message"),
    [
        (0, "network.class_conditional: .* made with false, the job has true"),
        (10, "dataset: .* made with 10 classes, the job has 2; choose an image set with 10 classes"),
    ],
)
def test_an_mlp_of_other_classes_is_another_network(tmp_path: Path, made_with: int, message: str) -> None:
    network = small_network("mlp", image_channels=1, num_classes=made_with, class_conditional=made_with > 0)
    spec, state = start_of(tmp_path, "mlp", network, made_with)

    with pytest.raises(SpecError, match=f"^{message}"):
        check_initial_weights(spec, IMAGES, JOB_FILES)
    with pytest.raises(SpecError):
        load_initial_weights(state, spec, JOB_FILES)
