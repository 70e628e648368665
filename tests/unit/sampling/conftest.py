"""One trained job for all tests of this folder."""

from pathlib import Path

import pytest

from tests.support.drawn import Gallery


@pytest.fixture(autouse=True)
def always_looking(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a job that is asked to leave does so at once."""
    monkeypatch.setattr("workers.sampling.pieces._LOOK_EVERY_SECONDS", 0.0)


@pytest.fixture(scope="session")
def gallery(tmp_path_factory: pytest.TempPathFactory) -> Gallery:
    """Without classes."""
    return Gallery("gallery", tmp_path_factory.mktemp("gallery"))


@pytest.fixture(scope="session")
def classes(tmp_path_factory: pytest.TempPathFactory) -> Gallery:
    """Of a network that knows ten classes, and none."""
    network = {"kind": "ddpmpp", "channels": 8, "channel_multipliers": [1], "blocks_per_level": 1}
    return Gallery(
        "classes",
        Path(tmp_path_factory.mktemp("classes")),
        network=network | {"class_conditional": True},
        objective={"consistency": None, "label_dropout": 0.1},
    )
