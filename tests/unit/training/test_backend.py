"""What is said of the device and its memory."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from workers.training.backend import _digest_of, code_digest, device_name, peak_memory_bytes, versions

CPU = torch.device("cpu")


def test_a_cpu_has_a_name() -> None:
    assert device_name(CPU).strip()


def test_the_peak_of_memory_is_in_bytes_and_never_falls() -> None:
    before = peak_memory_bytes(CPU)
    filled = torch.ones(64 << 20)  # 256 MiB
    during = peak_memory_bytes(CPU)
    del filled

    assert before > 10 << 20  # no Python with PyTorch is smaller: these are bytes
    assert before <= during <= peak_memory_bytes(CPU)
    assert during < 1 << 40


def test_versions_have_the_digest_of_the_code_that_computes() -> None:
    assert versions(CPU)["code"] == code_digest() == _digest_of(Path(__file__).parents[3] / "workers")


@pytest.fixture
def package(tmp_path: Path) -> Path:
    (tmp_path / "inner").mkdir()
    (tmp_path / "outer.py").write_text("a = 1\n")
    (tmp_path / "inner/module.py").write_text("b = 2\n")
    return tmp_path


@pytest.mark.parametrize(
    "change",
    [
        lambda package: (package / "inner/module.py").write_text("b = 3\n"),
        lambda package: (package / "inner/module.py").rename(package / "inner/another.py"),
        lambda package: (package / "added.py").touch(),
        lambda package: (package / "outer.py").unlink(),
    ],
    ids=["edited", "renamed", "added", "removed"],
)
def test_other_code_has_another_digest(package: Path, change: Callable[[Path], object]) -> None:
    before = _digest_of(package)

    change(package)

    assert _digest_of(package) != before


def test_what_is_no_code_is_not_in_its_digest(package: Path) -> None:
    before = _digest_of(package)

    (package / "notes.txt").write_text("none")
    (package / ".#outer.py").symlink_to("of-an-editor")  # its lock on the file

    assert _digest_of(package) == before
