"""Averages of any width, rebuilt from the checkpoints of a job through its store."""

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import safetensors.torch
import torch

from tests.support.command import Command
from tests.support.specs import smoke_spec
from tests.support.trained import tiny_spec, train_job
from workers.contract.keys import MANIFEST, JobKeys
from workers.data import import_dataset
from workers.jobs.failures import UsageError
from workers.storage.job_folder import committed_checkpoints
from workers.storage.local import LocalStore
from workers.tools.average import planned, write
from workers.training.state import new_state
from workers.training.weights import read_weights

Rebuild = Callable[..., tuple[int, str, str]]

KEYS = JobKeys("job_1")


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path / "store")


@pytest.fixture(scope="module")
def trained_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    train_job(tiny_spec(), LocalStore(folder / "store"), KEYS, cache=folder, every=32)
    return folder / "store"


@pytest.fixture
def finished(trained_once: Path, tmp_path: Path) -> LocalStore:
    """A job with two averages in each of five checkpoints; every test has a copy of its own."""
    shutil.copytree(trained_once, tmp_path / "store")
    return LocalStore(tmp_path / "store")


@pytest.fixture
def rebuild(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Rebuild:
    """Run the command on the folder of a job in a store; its code, output and errors."""
    cdm = Command(monkeypatch, capsys)

    def run(*arguments: str, job: str = "job_1", output: str = "out.safetensors") -> tuple[int, str, str]:
        answer = cdm("average", f"{tmp_path}/store/jobs/{job}", "--output", str(tmp_path / output), *arguments)
        return answer.code, answer.out, answer.err

    return run


def kept(store: LocalStore, name: str, *, checkpoint: int = -1) -> dict[str, torch.Tensor]:
    return safetensors.torch.load(store.get(committed_checkpoints(store, KEYS)[checkpoint] + name))


def distance(ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor]) -> float:
    assert ours.keys() == theirs.keys()
    pairs = [(ours[name].flatten(), theirs[name].flatten()) for name in ours]
    a, b = (torch.cat(side) for side in zip(*pairs, strict=True))
    return float((a - b).norm() / b.norm())


@pytest.mark.parametrize(
    ("arguments", "checkpoint"), [(("--relative-width", "0.1"), -1), (("--relative-width", "0.1", "--at", "96"), 2)]
)
def test_a_kept_average_is_rebuilt_as_it_was(
    finished: LocalStore, rebuild: Rebuild, tmp_path: Path, arguments: tuple[str, ...], checkpoint: int
) -> None:
    code, out, err = rebuild(*arguments)

    _, tensors = read_weights(tmp_path / "out.safetensors")
    expected = kept(finished, "ema-0.100.safetensors", checkpoint=checkpoint)
    assert (code, err) == (0, "")
    assert "from 1 of 10 stored averages" in out
    assert tensors.keys() == expected.keys()
    assert all(torch.equal(tensors[name], expected[name]) for name in expected)


def test_another_width_is_rebuilt_nearly_as_if_it_had_been_kept(
    store: LocalStore, rebuild: Rebuild, tmp_path: Path
) -> None:
    watched = tiny_spec(ema={"kind": "power", "relative_widths": [0.05, 0.1, 0.15]})
    train_job(watched, store, KEYS, cache=tmp_path, every=16)
    truth, start = kept(store, "ema-0.150.safetensors"), kept(store, "ema-0.150.safetensors", checkpoint=0)
    spec = tiny_spec()
    store.put(KEYS.spec, spec.model_dump_json().encode())  # as if it had not been: its files are not looked at

    code, out, _ = rebuild("--relative-width", "0.15")

    header, tensors = read_weights(tmp_path / "out.safetensors")
    assert code == 0
    assert "of 20 stored averages" in out
    assert distance(tensors, truth) < 0.02 * distance(start, truth)
    sampler = spec.sampler.model_dump_json()  # so that it is drawn from like the checkpoints
    assert header.extra == {"source": "job_1", "images_seen": "160", "relative_width": "0.15", "sampler": sampler}
    assert header.network == spec.network
    assert (header.image_channels, header.resolution, header.num_classes) == (1, 16, 0)


def test_constants_of_a_network_are_not_averaged(store: LocalStore, rebuild: Rebuild, tmp_path: Path) -> None:
    network = {"kind": "ncsnpp", "channels": 8, "channel_multipliers": [1], "blocks_per_level": 1}
    spec = tiny_spec(network=network)
    train_job(spec, store, KEYS, cache=tmp_path, every=32)
    buffers = dict(
        new_state(spec, import_dataset(spec.dataset, store), torch.device("cpu")).ema.network.named_buffers()
    )

    rebuild("--relative-width", "0.2")

    _, tensors = read_weights(tmp_path / "out.safetensors")
    assert tensors.keys() & buffers.keys()
    assert all(torch.equal(tensors[name], buffers[name]) for name in tensors.keys() & buffers.keys())


def test_where_several_attempts_passed_the_latest_counts(
    finished: LocalStore, rebuild: Rebuild, tmp_path: Path
) -> None:
    last = committed_checkpoints(finished, KEYS)[-1]
    for key in finished.list(last):
        finished.put(key.replace("-0001/", "-0002/"), finished.get(key))
    finished.delete(last + "ema-0.100.safetensors")

    code, out, _ = rebuild("--relative-width", "0.1")

    assert code == 0
    assert "from 1 of 10 stored averages" in out


def test_a_plan_names_all_that_is_read_and_writes_nothing(finished: LocalStore, tmp_path: Path) -> None:
    output = tmp_path / "out.safetensors"

    plan = planned(f"{tmp_path}/store/jobs/job_1", output, relative_width=0.1)
    written_before = output.exists()
    stored = [key for key in finished.list(KEYS.checkpoints) if "/ema-" in key]
    for key in {*finished.list(KEYS.checkpoints)} - {*plan.keys}:
        if not key.endswith(MANIFEST):
            finished.delete(key)
    said = write(plan, output)

    assert not written_before
    assert {*plan.keys} < {*stored}
    assert f"from {len(plan.keys)} of {len(stored)} stored averages" in said
    assert output.exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--relative-width", "0.2"), "too few checkpoints (5) for this width"),
        (("--relative-width", "0.1", "--at", "150"), "no checkpoint at 150 images; the nearest is --at 160"),
    ],
)
def test_a_poor_reconstruction_says_so_and_how_to_better_it(
    finished: LocalStore, rebuild: Rebuild, tmp_path: Path, arguments: tuple[str, ...], words: str
) -> None:
    code, _, err = rebuild(*arguments)

    assert code == 0
    assert err.startswith("warning: a poor reconstruction: ")
    assert words in err


@pytest.mark.parametrize(
    ("arguments", "named", "message"),
    [
        (("--relative-width", "0.28"), {}, "--relative-width: 0.28 is out of range, must lie between 0 and 0.28"),
        (("--relative-width", "nan"), {}, "--relative-width: nan is out of range"),
        (
            ("--relative-width", "0.1", "--at", "161"),
            {},
            "--at: 161 is out of range, the last checkpoint is at",
        ),
        (("--relative-width", "0.1", "--at", "0"), {}, "--at: 0 is out of range"),
        (("--relative-width", "0.1"), {"job": "job_2"}, "cannot read the spec at .*/jobs/job_2/spec.json: "),
        (
            ("--relative-width", "0.1"),
            {"output": "no/out.safetensors"},
            "cannot write .*/no/.*: name a file in a folder that is there",
        ),
    ],
)
def test_what_cannot_be_rebuilt_is_refused_in_one_line(
    finished: LocalStore,
    rebuild: Rebuild,
    tmp_path: Path,
    arguments: tuple[str, ...],
    named: dict[str, str],
    message: str,
) -> None:
    code, out, err = rebuild(*arguments, **named)

    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    assert re.match(f"error: {message}", err), err
    assert not (tmp_path / "out.safetensors").exists()


def test_what_is_no_folder_of_a_job_is_refused(finished: LocalStore, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r".*/checkpoints is not the folder of a job"):
        planned(f"{tmp_path}/store/jobs/job_1/checkpoints", tmp_path / "out.safetensors", relative_width=0.1)


def test_a_job_without_power_function_averages_or_checkpoints_is_refused(store: LocalStore, rebuild: Rebuild) -> None:
    store.put(KEYS.spec, smoke_spec().model_dump_json().encode())
    exponential = rebuild("--relative-width", "0.1")
    store.put(KEYS.spec, smoke_spec(ema={"kind": "power"}).model_dump_json().encode())
    new = rebuild("--relative-width", "0.1")

    assert exponential == (
        2,
        "",
        "error: job_1 keeps no power-function averages: train with ema.kind = power for that\n",
    )
    assert new == (2, "", "error: job_1 has no checkpoints yet: the first comes after 160 images\n")


@pytest.mark.parametrize("damage", ["bit flipped", "file missing", "manifest torn"])
def test_a_damaged_checkpoint_is_named(finished: LocalStore, rebuild: Rebuild, tmp_path: Path, damage: str) -> None:
    folder = committed_checkpoints(finished, KEYS)[-1]
    key = folder + "ema-0.100.safetensors"
    match damage:
        case "bit flipped":
            finished.put(key, finished.get(key)[:-1] + bytes([finished.get(key)[-1] ^ 1]))
        case "file missing":
            finished.delete(key)
        case "manifest torn":
            finished.put(folder + MANIFEST, finished.get(folder + MANIFEST)[:100])

    code, out, err = rebuild("--relative-width", "0.1")

    assert (code, out) == (2, "")
    assert err.startswith(f"error: {folder} is damaged, remove it to go on without it: ")
    assert err.count("\n") == 1
    assert not (tmp_path / "out.safetensors").exists()
