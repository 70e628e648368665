"""`cdm convert`, from a snapshot to the weights of a job, in the processes that a user starts."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.command import Command
from tests.support.edm_snapshots import write_snapshot
from tests.support.published_networks import published
from workers.training.weights import read_weights


@pytest.fixture
def snapshot(tmp_path: Path) -> Path:
    network = published("ddpmpp", label_dim=10, augment_dim=9)
    return write_snapshot(tmp_path / "network-snapshot-200000.pkl", network, network.tensors())


def convert(folder: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "service.cli", "convert", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def test_a_snapshot_becomes_a_weights_file_and_one_line_says_of_what(snapshot: Path) -> None:
    ended = convert(snapshot.parent, snapshot.name, "-o", "weights.safetensors")

    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout == (
        "weights.safetensors: DDPM++ (ddpmpp), 2,389,059 parameters, 8x8 with 3 channels, 10 classes, "
        "9 augmentation labels, edm preconditioning with sigma_data 0.5\n"
    )
    header, tensors = read_weights(snapshot.parent / "weights.safetensors")
    assert (header.resolution, header.num_classes, header.extra) == (8, 10, {"source": snapshot.name})
    assert sum(tensor.numel() for tensor in tensors.values()) == 2_389_059


def test_what_is_there_is_replaced_only_when_asked(snapshot: Path) -> None:
    output = snapshot.parent / "weights.safetensors"
    output.write_text("precious")

    refused = convert(snapshot.parent, snapshot.name, "-o", output.name)
    kept = output.read_text()
    forced = convert(snapshot.parent, snapshot.name, "-o", output.name, "--force", "--json")

    assert (refused.returncode, refused.stdout, kept) == (2, "", "precious")
    assert refused.stderr == (
        "error: weights.safetensors is there already: choose another --output, or replace it with --force\n"
    )
    assert (forced.returncode, json.loads(forced.stdout)) == (0, {"path": str(output)})
    assert read_weights(output)[0].resolution == 8


def test_a_file_that_is_no_snapshot_ends_in_one_line_and_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "other.pkl").write_text("<html>404</html>")

    ended = convert(tmp_path, "other.pkl", "-o", "weights.safetensors")

    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr.startswith("error: other.pkl: is not a snapshot, or not a whole one (")
    assert ended.stderr.count("\n") == 1
    assert not (tmp_path / "weights.safetensors").exists()


def test_without_pytorch_one_line_says_what_to_install(cdm: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)  # as if it were not there

    answer = cdm("convert", "network.pkl", "-o", "weights.safetensors")

    assert (answer.code, answer.out) == (1, "")
    assert answer.err == (
        "error: converting takes PyTorch, which is not installed here: pip install '.[workers]' in the checkout\n"
    )
