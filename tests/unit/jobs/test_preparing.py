"""What is refused of a training before any worker starts."""

import pytest
import torch

from tests.support.trained import tiny_spec
from workers.contract.data import DatasetManifest
from workers.contract.document import SpecError
from workers.contract.keys import JobKeys
from workers.contract.spec import TrainSpec
from workers.diffusion.denoiser import Denoiser
from workers.jobs import train
from workers.storage.memory import MemoryStore


def test_a_network_that_no_checkpoint_can_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    new_denoiser = train.new_denoiser

    def with_rotations(spec: TrainSpec, images: DatasetManifest) -> Denoiser:
        denoiser = new_denoiser(spec, images)
        denoiser.network.register_buffer("rotations", torch.ones(2, dtype=torch.complex64))
        return denoiser

    monkeypatch.setattr(train, "new_denoiser", with_rotations)

    with pytest.raises(SpecError, match=r"network: rotations is of torch\.complex64"):
        train.prepare_training(tiny_spec(), JobKeys("job"), MemoryStore(), on_bytes=lambda done, total: None)
